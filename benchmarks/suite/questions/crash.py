"""A worker dies."""

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
from suite.work import end_process, same, wait

__all__ = ["Crash"]

TASKS, PATIENCE_S = 50, 10.0


class Crash(Question):
    name = "crash"
    title = "A crash in native code among 50 tasks"
    what = (
        "Fifty tasks of 20 ms run on two workers, and one of them ends its process as a crash in native code does. A crash "
        "should cost the task that caused it, and no other, and the pool should go on."
    )
    expected = "none of the 49 other tasks is lost, and the next call works"
    figures = (
        Figure("lost", "other tasks lost", 0, is_plotted=True),
        Figure("seconds", "until all have an outcome, s", 2),
        Figure("usable", "the pool works afterwards", 0, is_rate=True),
        Figure("never", "tasks without an outcome in 10 s", 0),
    )
    goals = (
        Goal("other tasks lost", 0.0, lambda found: found[OFFLOOP]["lost"], "This is a defect.", digits=0),
        Goal("the pool works afterwards", 1.0, lambda found: found[OFFLOOP]["usable"], "This is a defect.", True, 0),
    )
    loop = "asyncio"

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        # within the server, it would end the server
        return pools(peers, is_quick=is_quick, without=[COMPILED, IN_SERVER, "threads"])

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        return {}

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        await asyncio.gather(*(opened.call(wait, 0.02, number) for number in range(8)))

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        ended, lost = 0, 0
        started, last = perf_counter(), perf_counter()

        async def one(number: int) -> None:
            nonlocal ended, lost, last
            try:
                if number == TASKS // 5:
                    await opened.call(end_process, number)
                else:
                    assert await opened.call(wait, 0.02, number) == number
            except Exception:
                lost += number != TASKS // 5
            ended += 1
            last = perf_counter()

        with anyio.move_on_after(PATIENCE_S):
            async with anyio.create_task_group() as group:
                for number in range(TASKS):
                    group.start_soon(one, number)
        usable = 0.0
        with anyio.move_on_after(PATIENCE_S):
            try:
                usable = float(await opened.call(same, 7) == 7)
            except Exception:
                usable = 0.0
        return {"lost": float(lost), "seconds": last - started, "usable": usable, "never": float(TASKS - ended)}
