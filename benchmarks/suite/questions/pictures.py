"""The two tasks that sharp publishes, beside sharp."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
from tree_memory import TreeMemory

from suite.contenders import IN_SERVER, OFFLOOP, Contender, Opened
from suite.peers import Peers
from suite.questions.base import Figure, Goal, Question
from suite.sharp_tasks import TASKS, make_sources, psnr
from suite.watching import SHARP
from suite.work import FAST, PUBLISHED, picture

__all__ = ["Pictures"]

_FAST = "offloop, Resize(fast=True)"
_REASONS = {
    "JPEG": "Source and result are copied between processes, and the decoder is watched for data that it leaves over.",
    "PNG": "Pictures with alpha are reduced in float, which keeps colours under a low alpha exact; sharp reduces in 8 bits.",
}


class Pictures(Question):
    name = "pictures"
    title = "The two tasks that sharp publishes"
    what = (
        "A JPEG of 2725 x 2225 becomes a JPEG of 720 x 588 and quality 80, and a PNG of 2048 x 1536 with alpha becomes a PNG "
        "of 720 x 540, by Lanczos3 on one thread of libvips for each picture. The floor is the calls of libvips that offloop "
        "makes, in one process; results are compared with a reduction in float."
    )
    expected = "with two in flight at least as fast as sharp, with one in flight within 10 %"
    figures = (
        *(
            Figure(f"{name}_{in_flight}_ms", f"{name}, {in_words} in flight, ms", 1, is_plotted=True)
            for name in TASKS
            for in_flight, in_words in ((1, "one"), (2, "two"))
        ),
        *(Figure(f"{name}_cpu_ms", f"{name}, CPU ms", 1) for name in TASKS),
        Figure("psnr_db", "PSNR, least, dB", 1),
        Figure("peak_mib", "peak memory, MiB", 0),
    )

    floors = (IN_SERVER,)
    goals = (
        *(
            Goal(
                f"{name}, {in_words} in flight, time, times sharp's",
                limit,
                lambda found, key=f"{name}_{in_flight}_ms": found[OFFLOOP][key] / found[SHARP][key],
                _REASONS[name],
            )
            for name in TASKS
            for in_flight, in_words, limit in ((1, "one", 1.10), (2, "two", 1.0))
        ),
        *(
            Goal(
                f"{name} with `Resize(fast=True)`, {in_words} in flight, time, times sharp's",
                limit,
                lambda found, key=f"{name}_{in_flight}_ms": found[_FAST][key] / found[SHARP][key],
                "Source and result are copied between processes; the rest is within the spread.",
            )
            for name in FAST
            for in_flight, in_words, limit in ((1, "one", 1.10), (2, "two", 1.0))
        ),
    )

    def __init__(self) -> None:
        self._results: dict[str, bytes] = {}
        self._psnr_db = 0.0

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        sharp = [] if peers.node_packages is None else [SHARP]
        return [OFFLOOP, _FAST, "threads", "ProcessPoolExecutor", *sharp, IN_SERVER]

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        # the process that measures must not load libvips
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            executor.submit(make_sources, folder).result()
        tasks = [{"name": name, **task._asdict(), "reference": task.reference} for name, task in TASKS.items()]
        return {"folder": str(folder), "tasks": tasks, "count": 2 if is_quick else 12}

    def opened(
        self, name: str, contenders: Mapping[str, Contender], job: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Opened]:
        return contenders[OFFLOOP if name == _FAST else name](job["workers"])

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        for name, task in TASKS.items():
            source = Path(job["folder"], task.source).read_bytes()
            async with anyio.create_task_group() as group:
                for _ in range(2 * job["workers"]):
                    group.start_soon(self._reduce, opened, job, name, source)
        self._psnr_db = self._check_quality(Path(job["folder"]))

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        figures: dict[str, float] = {}
        tree = TreeMemory(os.getpid())
        for name, task in TASKS.items():
            source = Path(job["folder"], task.source).read_bytes()
            cpu_s, pictures = tree.cpu_s(), 0
            for in_flight in (1,) if job["contender"] == IN_SERVER else (1, job["workers"]):
                started = perf_counter()
                await self._reduce_many(opened, job, name, source, in_flight)
                figures[f"{name}_{in_flight}_ms"] = (perf_counter() - started) / job["count"] * 1e3
                pictures += job["count"]
            figures[f"{name}_cpu_ms"] = (tree.cpu_s() - cpu_s) / pictures * 1e3
        return {**figures, "psnr_db": self._psnr_db}

    def _check_quality(self, folder: Path) -> float:
        """Compare the results with the references. Returns the least ratio."""
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            quality = {name: executor.submit(psnr, name, made, folder).result() for name, made in self._results.items()}
        for name, found in quality.items():
            assert found >= TASKS[name].least_psnr, f"{name}: {found:.1f} dB"
        return min(quality.values())

    async def _reduce_many(self, opened: Opened, job: Mapping[str, Any], name: str, source: bytes, in_flight: int) -> None:
        left = iter(range(job["count"]))

        async def lane() -> None:
            for _ in left:
                await self._reduce(opened, job, name, source)

        async with anyio.create_task_group() as group:
            for _ in range(in_flight):
                group.start_soon(lane)

    async def _reduce(self, opened: Opened, job: Mapping[str, Any], name: str, source: bytes) -> None:
        pipeline = FAST.get(name, name) if job["contender"] == _FAST else name
        if opened.pool is None:
            result: bytes = await opened.call(picture, pipeline, source)
        else:
            result = bytes(await opened.pool.run(source, PUBLISHED[pipeline]))
        # the same calls of libvips give the same bytes
        assert result == self._results.setdefault(name, result), name
