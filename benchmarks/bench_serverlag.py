"""How late is the server's event loop while its CPUs are busy with thumbnails?

A ticker on the loop wakes every 2 ms. Its delay is the lag of every request of the server. Meanwhile as many thumbnails as
possible are made, with one worker per CPU and two tasks in flight per worker. In turns in the same run, each contender alone in
the server:

- offloop, with its workers at the default niceness, at 0, at 19, and "idle";
- threads of the server, `ProcessPoolExecutor`, loky and anyio.to_process, which all do the same work with the same code;
- the floor: bare processes at niceness 5 and at 0, each with a pipe and a reader and nothing else.

    python benchmarks/bench_serverlag.py [--smoke] [--rounds 5]

Expected: the 99th percentile of the lag at most half of that of the best peer, and at most 1.3 times that of bare niced
processes; throughput at least 0.97 of theirs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import anyio.to_process
import uvloop
from measuring import arguments, percentile
from thumbnails import PIPELINE, thumbnail

from offloop import Pool

PHOTOS = Path(__file__).parents[1] / "docs" / "photos"
WORKERS = len(os.sched_getaffinity(0))
IN_HAND = 2 * WORKERS
TICK_S = 0.002

Work = Callable[[bytes], Awaitable[object]]


@asynccontextmanager
async def offloop(nice: int | str | None) -> AsyncGenerator[Work]:
    given: dict[str, Any] = {} if nice is None else {"nice": nice}
    async with Pool(WORKERS, plugins=["vips"], **given) as pool:
        yield lambda source: pool.run(source, PIPELINE)


@asynccontextmanager
async def executor(made: Executor) -> AsyncGenerator[Work]:
    loop = asyncio.get_running_loop()
    with made:
        yield lambda source: loop.run_in_executor(made, thumbnail, source)


@asynccontextmanager
async def to_process() -> AsyncGenerator[Work]:
    limiter = anyio.CapacityLimiter(WORKERS)
    yield lambda source: anyio.to_process.run_sync(thumbnail, source, limiter=limiter)


def serve_by_hand(connection: Connection, nice: int) -> None:
    os.nice(nice)
    while (source := connection.recv_bytes()) != b"":
        connection.send_bytes(thumbnail(source))


@asynccontextmanager
async def by_hand(nice: int) -> AsyncGenerator[Work]:
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("spawn")
    idle: asyncio.Queue[Connection] = asyncio.Queue()
    ours: list[Connection] = []
    for _ in range(WORKERS):
        end, theirs = context.Pipe()
        context.Process(target=serve_by_hand, args=(theirs, nice), daemon=True).start()
        theirs.close()
        idle.put_nowait(end)
        ours.append(end)

    async def work(source: bytes) -> bytes:
        end = await idle.get()
        end.send_bytes(source)
        answered = loop.create_future()
        loop.add_reader(end.fileno(), lambda: answered.done() or answered.set_result(None))
        await answered
        loop.remove_reader(end.fileno())
        result = end.recv_bytes()
        idle.put_nowait(end)
        return result

    yield work
    for end in ours:
        end.send_bytes(b"")


async def measure(work: Work, sources: list[bytes], seconds: float) -> tuple[list[float], float]:
    """Returns the lags of the ticker in seconds, and the thumbnails per second."""
    lags: list[float] = []
    done = 0
    end = perf_counter() + seconds

    async def make_thumbnails(first: int) -> None:
        nonlocal done
        while perf_counter() < end:
            await work(sources[(first + done) % len(sources)])
            done += 1

    async def tick() -> None:
        while perf_counter() < end:
            before = perf_counter()
            await asyncio.sleep(TICK_S)
            lags.append(perf_counter() - before - TICK_S)

    await asyncio.gather(tick(), *(make_thumbnails(number) for number in range(IN_HAND)))
    return lags, done / seconds


@asynccontextmanager
async def no_work() -> AsyncGenerator[Work]:
    yield lambda _: asyncio.sleep(0.05)


def contenders() -> dict[str, Callable[[], AbstractAsyncContextManager[Work]]]:
    spawn = multiprocessing.get_context("spawn")
    found: dict[str, Callable[[], AbstractAsyncContextManager[Work]]] = {
        "idle": no_work,
        "by hand, niceness 5": lambda: by_hand(5),
        "offloop": lambda: offloop(None),
        "offloop, niceness 0": lambda: offloop(0),
        "offloop, niceness 19": lambda: offloop(19),
        "offloop, idle": lambda: offloop("idle"),
        "by hand, niceness 0": lambda: by_hand(0),
        "threads": lambda: executor(ThreadPoolExecutor(WORKERS)),
        "ProcessPoolExecutor": lambda: executor(ProcessPoolExecutor(WORKERS, mp_context=spawn)),
        "anyio.to_process": to_process,
    }
    try:
        loky: Any = import_module("loky")
    except ImportError:
        print("loky is not installed: left out")
    else:
        found["loky"] = lambda: executor(loky.ProcessPoolExecutor(WORKERS))
    return found


async def main(rounds: int, seconds: float) -> None:
    sources = [path.read_bytes() for path in sorted(PHOTOS.glob("*.jp*g"))]
    lags: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, make in contenders().items():
            async with make() as work:  # only one contender at a time, as in a server
                await measure(work, sources, 0.5)  # warm-up, which loads all libraries
                lag, rate = await measure(work, sources, seconds)
            lags.setdefault(name, []).append(percentile(lag, 99))
            rates.setdefault(name, []).append(rate)
    floor_lag = statistics.median(lags["by hand, niceness 5"])
    floor_rate = statistics.median(rates["by hand, niceness 5"])
    print(f"{WORKERS} workers, {IN_HAND} thumbnails in hand, {rounds} turns of {seconds:g} s; medians of the turns")
    print(f"{'':22}{'p99 lag, ms':>12}{'least':>8}{'most':>8}{'/ by hand':>11}{'a second':>10}{'/ by hand':>11}")
    for name, late in lags.items():
        lag, rate = statistics.median(late), statistics.median(rates[name])
        spread = f"{min(late) * 1000:8.2f}{max(late) * 1000:8.2f}"
        print(f"{name:22}{lag * 1000:12.2f}{spread}{lag / floor_lag:11.2f}{rate:10.0f}{rate / floor_rate:11.2f}")


if __name__ == "__main__":
    given = arguments(__doc__)
    uvloop.run(main(1 if given.smoke else given.rounds, 0.3 if given.smoke else 4.0))
