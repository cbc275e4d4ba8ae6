"""How long does starting a worker pause the event loop of a server with a large heap?

A fork copies page tables, which takes milliseconds per GiB. A fork on the loop pauses the loop for that time. The server here
has touched a large heap. A ticker that only yields measures the longest pause of the loop. In turns in the same run:

- offloop: `spawn` in a thread, as a pool does it, with segments of its own;
- `asyncio.create_subprocess_exec` (uvloop's on uvloop, `trio.lowlevel.open_process` on trio);
- `subprocess.Popen` on the loop itself, and in a thread;
- `multiprocessing` processes by spawn and by fork, started on the loop.

    python benchmarks/bench_spawn.py

Expected: at most 5 ms for offloop, on every loop. The machine's own pauses are in the row "nothing".
"""

from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

import anyio
import anyio.to_thread
from measuring import arguments, percentile

from offloop.runtime.memory.segments import Segment
from offloop.runtime.workers.process import spawn

GIB, MIB = 1024 * 1024 * 1024, 1024 * 1024
COMMAND = [sys.executable, "-c", "pass"]
LOOPS: dict[str, dict[str, Any]] = {
    "asyncio": {"backend": "asyncio", "backend_options": {"use_uvloop": False}},
    "uvloop": {"backend": "asyncio", "backend_options": {"use_uvloop": True}},
    "trio": {"backend": "trio"},
}
MANY_DESCRIPTORS = 4000


def nothing() -> None:
    """The task of the peers' processes."""


def in_child_of_multiprocessing(method: str) -> Callable[[], Awaitable[object]]:
    context: Any = multiprocessing.get_context(method)

    async def start() -> object:
        process = context.Process(target=nothing)
        process.start()
        return lambda: (process.join(), process.close())

    return start


async def popen_on_the_loop() -> object:
    return subprocess.Popen(COMMAND).wait


async def popen_in_a_thread() -> object:
    return (await anyio.to_thread.run_sync(subprocess.Popen, COMMAND)).wait


async def by_asyncio() -> object:
    process = await asyncio.create_subprocess_exec(*COMMAND)
    return process.wait


async def by_trio() -> object:
    import trio

    return (await trio.lowlevel.open_process(COMMAND)).wait


async def rest() -> object:
    await anyio.sleep(0.02)
    return nothing


class Worker:
    """Starts real workers, as a pool does."""

    def __init__(self) -> None:
        self._inbox = Segment(64 * MIB, workers_write=False)
        self._outbox = Segment(64 * MIB, workers_write=True)
        self._outbox.reserve_pages(0, 4096)

    async def start(self) -> object:
        process = await anyio.to_thread.run_sync(spawn, self._inbox.worker_fd, self._outbox.worker_fd)

        def end() -> None:
            process.kill()
            os.waitid(os.P_PID, process.pid, os.WEXITED)
            process.close()

        return end


async def pause_of(start: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Returns the longest pause of the loop during the start, and the duration of the start, in seconds."""
    longest, last = 0.0, perf_counter()
    end: Any = None
    took = 0.0

    async def tick() -> None:
        nonlocal longest, last
        while True:
            await anyio.sleep(0)
            now = perf_counter()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(tick)
        for _ in range(3):
            await anyio.sleep(0)
        longest, started = 0.0, perf_counter()
        end = await start()
        took = perf_counter() - started
        await anyio.sleep(0)
        task_group.cancel_scope.cancel()
    if inspect.iscoroutinefunction(end):
        await end()
    else:
        await anyio.to_thread.run_sync(end)
    return longest, took


async def compare(loop: str, rounds: int, worker: Worker) -> None:
    own = by_trio if loop == "trio" else by_asyncio
    contenders: dict[str, Callable[[], Awaitable[object]]] = {
        "nothing": rest,
        "offloop": worker.start,
        {"trio": "trio.lowlevel.open_process"}.get(loop, f"{loop}: create_subprocess_exec"): own,
        "subprocess.Popen in a thread": popen_in_a_thread,
        "subprocess.Popen on the loop": popen_on_the_loop,
        "multiprocessing, spawn": in_child_of_multiprocessing("spawn"),
        "multiprocessing, fork": in_child_of_multiprocessing("fork"),
    }
    if loop != "asyncio":  # once is enough, because a child forked by multiprocessing continues in the interpreter
        del contenders["multiprocessing, fork"]
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, start in contenders.items():
            samples[name].append(await pause_of(start))
    for name, values in samples.items():
        pauses, times = ([value * 1e3 for value in column] for column in zip(*values[1:], strict=True))
        row = (percentile(pauses, 50), percentile(pauses, 90), max(pauses), percentile(times, 50))
        print(f"{loop:10}{name:34}" + "".join(f"{value:9.2f}" for value in row))


def main() -> None:
    options = arguments(__doc__)
    rounds, nbytes = (1, 64 * MIB) if options.smoke else (options.rounds, 4 * GIB)
    heap = bytearray(nbytes)
    heap[::4096] = b"x" * (nbytes // 4096)
    many: list[int] = []
    worker = Worker()
    print(f"a heap of {nbytes // MIB:,} MiB; {rounds} turns; milliseconds")
    for descriptors in (0, 64 if options.smoke else MANY_DESCRIPTORS):
        with suppress(OSError):
            many += [os.open(os.devnull, os.O_RDONLY) for _ in range(descriptors)]
        print(f"{len(os.listdir('/proc/self/fd'))} descriptors are open")
        print(f"{'':44}{'pause50':>9}{'p90':>9}{'worst':>9}{'took50':>9}")
        for loop, backend in LOOPS.items():
            anyio.run(compare, loop, rounds, worker, **backend)
    for descriptor in many:
        os.close(descriptor)
    del heap


if __name__ == "__main__":
    main()
