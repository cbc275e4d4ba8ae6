"""Small pictures that arrive behind large ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from measuring import percentile

from offloop import Pool
from suite.contenders import COMPILED, IN_SERVER, OFFLOOP, Contender, Opened
from suite.peers import Peers
from suite.questions.article import noise
from suite.questions.base import Figure, Goal, Question, pools
from suite.work import PIPELINES, THUMBNAIL, edit

__all__ = ["Order"]

_TIGHT, _LIMIT = "offloop, memory_limit of 350 MiB", "350MiB"


class Order(Question):
    name = "order"
    title = "Small pictures behind large ones, and a limit on memory"
    what = (
        "Eight pictures of 12 megapixels are turned by 90 degrees, and forty small ones, submitted right after them, are "
        "resized. In the order of arrival the small ones wait for all large ones, and without a budget memory has no bound."
    )
    expected = "the first small result within 50 ms, and the peak of memory below the limit where there is one"
    figures = (
        Figure("small_p95_ms", "small pictures, p95, ms", 0, is_plotted=True),
        Figure("first_small_ms", "first small result, ms", 0),
        Figure("seconds", "all of them, s", 2),
        Figure("peak_mib", "peak memory, MiB", 0, is_plotted=True),
        Figure("lag_p99_ms", "lag of the loop, p99, ms", 1),
    )
    goals = (
        Goal(
            "first small result, ms",
            50.0,
            lambda found: found[OFFLOOP]["first_small_ms"],
            "Both workers have begun a large picture before the first small one is submitted, and a worker must start for it.",
            digits=0,
        ),
        Goal(
            "peak memory with a `memory_limit` of 350 MiB, MiB",
            350.0,
            lambda found: found[_TIGHT]["peak_mib"],
            "The peak is of the whole service, with the server's own Python, which the limit does not count.",
            digits=0,
        ),
    )

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        return [_TIGHT, *pools(peers, is_quick=is_quick, without=[COMPILED, IN_SERVER])]

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        large, small = noise(folder, [(400, 300) if is_quick else (4000, 3000), (200, 150)])
        numbers = (2, 4) if is_quick else (8, 40)
        return {"large": large, "small": small, "folder": str(folder), "numbers": numbers}

    def opened(
        self, name: str, contenders: Mapping[str, Contender], job: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Opened]:
        return _limited(job["workers"]) if name == _TIGHT else super().opened(name, contenders, job)

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        await asyncio.gather(*(_edit(opened, THUMBNAIL, job["small"], _target(job, number)) for number in range(8)))

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        started = perf_counter()

        async def one(name: str, source: str, number: int) -> float:
            target = _target(job, number)
            await _edit(opened, name, source, target)
            taken = perf_counter() - started
            assert target.stat().st_size > 100, target
            target.unlink()
            return taken

        large, small = job["numbers"]
        taken = await asyncio.gather(
            *(one("rotate", job["large"], number) for number in range(large)),
            *(one(THUMBNAIL, job["small"], large + number) for number in range(small)),
        )
        return {
            "small_p95_ms": percentile(taken[large:], 95) * 1e3,
            "first_small_ms": min(taken[large:]) * 1e3,
            "seconds": max(taken),
        }


@asynccontextmanager
async def _limited(workers: int) -> AsyncGenerator[Opened]:
    async with Pool(workers, plugins=["vips"], memory_limit=_LIMIT, nice=0, timeout=None) as pool:
        yield Opened(pool.call, pool)


async def _edit(opened: Opened, name: str, source: str, target: Path) -> None:
    if opened.pool is None:
        await opened.call(edit, name, source, str(target))
    else:
        await opened.pool.run(Path(source), PIPELINES[name], to=target)


def _target(job: Mapping[str, Any], number: int) -> Path:
    return Path(job["folder"], f"made-{number}.png")
