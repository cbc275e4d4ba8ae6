"""Work that never ends."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from suite.contenders import COMPILED, IN_SERVER, OFFLOOP, Opened
from suite.peers import Peers
from suite.questions.base import Figure, Goal, Question, pools
from suite.work import hang, wait

__all__ = ["Stuck"]

TASKS, HANGING, LIMIT_S, PATIENCE_S = 50, 2, 1.0, 6.0


class Stuck(Question):
    name = "stuck"
    title = "Two tasks that never end, among 50"
    what = (
        "Two of fifty tasks never return, as many as there are workers, and they have a limit of one second where the pool "
        "has such a thing. A pool that cannot end work loses its workers one by one, until it stands still for ever."
    )
    expected = "all 48 others return within six seconds, and the error comes after the limit and a grace"
    figures = (
        Figure("returned", "of 48 others returned", 0, is_plotted=True, is_rate=True),
        Figure("seconds", "until all of them returned, at most 6, s", 2),
        Figure("error_s", "until the first error, at most 6, s", 2),
    )
    goals = (
        Goal("of 48 others returned", 48.0, lambda found: found[OFFLOOP]["returned"], "This is a defect.", True, 0),
        Goal(
            "until the first error, s, with a limit of 1 s and a grace of 0.25 s",
            1.4,
            lambda found: found[OFFLOOP]["error_s"],
            "A worker that does not stop is killed after the grace.",
        ),
    )
    loop = "asyncio"

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        # within the server, its process would never end
        return pools(peers, is_quick=is_quick, without=[COMPILED, IN_SERVER, "threads"])

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        return {}

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        await asyncio.gather(*(opened.call(wait, 0.02, number) for number in range(8)))

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        returned, last = 0, PATIENCE_S
        errors: list[float] = []
        started = perf_counter()
        limit = {"timeout": LIMIT_S} if opened.has_timeout else {}

        async def one(number: int) -> None:
            nonlocal returned, last
            try:
                if number < HANGING:
                    with anyio.fail_after(None if limit else LIMIT_S):
                        await opened.call(hang, number, **limit)
                else:
                    assert await opened.call(wait, 0.02, number) == number
                    returned += 1
                    last = perf_counter() - started
            except Exception:
                errors.append(perf_counter() - started)

        with anyio.move_on_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                for number in range(TASKS):
                    group.start_soon(one, number)
        others = TASKS - HANGING
        return {
            "returned": float(returned),
            "seconds": last if returned == others else PATIENCE_S,
            "error_s": errors[0] if errors else PATIENCE_S,
        }
