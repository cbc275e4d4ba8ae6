"""How fast do large frames reach a consumer on the event loop, and does the loop notice?

Frames of 1280 x 720 RGBA (3.7 MB) from one other process, in turns in the same run:

- offloop: `Pool.stream`, frames read in place;
- `multiprocessing.Queue`: the same frames as pickled bytes, read by a thread of the server;
- `ProcessPoolExecutor`: a call for each frame, four at a time;
- the renderer alone, in the other process, without a consumer.

"fill" only writes every byte of a frame; "music" is the renderer of docs/examples/visualizer. Then each contender brings 60
frames a second while a ticker on the loop wakes every 2 ms. Its delay is the lag of every request of the server.

    python benchmarks/bench_frames.py [--smoke] [--rounds 5]

Expected: at least 10 times the queue's rate or the renderer's own, and a 99th percentile of the lag under 1 ms.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter, process_time

import uvloop
from frames_work import NBYTES, Draw, DrawPlugin, RendererName, draw_frame, own_frames, put_frames
from measuring import arguments, percentile

from offloop import Pool

TICK_S = 0.002
FPS = 60
IN_FLIGHT = 4
SPAWN = multiprocessing.get_context("spawn")

Frames = AsyncIterator[memoryview | bytes]
Source = Callable[[RendererName, int, float], Frames]


class Contenders:
    """Sources of frames, with their processes started."""

    def __init__(self, pool: Pool, executor: ProcessPoolExecutor) -> None:
        self._pool, self._executor = pool, executor
        self.sources: dict[str, Source] = {"offloop": self.stream, "Queue": self.queue, "ProcessPoolExecutor": self.calls}

    async def stream(self, name: RendererName, count: int, fps: float) -> Frames:
        async with self._pool.stream(b"", [Draw(name, count, fps)], buffer=IN_FLIGHT) as frames:
            async for frame in frames:
                yield frame.data
                del frame

    async def queue(self, name: RendererName, count: int, fps: float) -> Frames:
        queue = SPAWN.Queue(IN_FLIGHT)
        process = SPAWN.Process(target=put_frames, args=(queue, name, count, fps), daemon=True)
        process.start()
        for _ in range(count):
            yield await asyncio.to_thread(queue.get)
        await asyncio.to_thread(process.join)

    async def calls(self, name: RendererName, count: int, fps: float) -> Frames:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        waiting: list[asyncio.Future[bytes]] = []
        for tick in range(count):
            if fps:
                await asyncio.sleep(begun + tick / fps - loop.time())
            waiting.append(loop.run_in_executor(self._executor, draw_frame, name, tick))
            if fps or len(waiting) == IN_FLIGHT:
                yield await waiting.pop(0)
        for last in waiting:
            yield await last

    async def alone(self, name: RendererName, count: int) -> float:
        """Returns the frames per second of the renderer alone."""
        seconds = await asyncio.get_running_loop().run_in_executor(self._executor, own_frames, name, count)
        return count / seconds


async def read_all(frames: Frames) -> tuple[float, float]:
    """Read all frames. Returns the frames per second after the first one, and the CPU seconds of this process for each."""
    count, started, cpu = 0, 0.0, 0.0
    async for frame in frames:
        assert len(frame) == NBYTES
        if count == 0:
            started, cpu = perf_counter(), process_time()
        count += 1
        del frame
    return (count - 1) / (perf_counter() - started), (process_time() - cpu) / (count - 1)


async def lags_during(frames: Frames | None, seconds: float) -> list[float]:
    """Returns the lags of the ticker in seconds while frames are read, after the first one has come."""
    lags: list[float] = []
    if frames is not None:
        await anext(frames)

    async def tick() -> None:
        end = perf_counter() + seconds
        while perf_counter() < end:
            before = perf_counter()
            await asyncio.sleep(TICK_S)
            lags.append(perf_counter() - before - TICK_S)

    async def read() -> None:
        if frames is not None:
            async for frame in frames:
                del frame

    await asyncio.gather(tick(), read())
    return lags


async def compare_rates(contenders: Contenders, name: RendererName, rounds: int, count: int) -> None:
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    for _ in range(rounds):
        for source, make in contenders.sources.items():
            rate, cost = await read_all(make(name, count, 0))
            rates.setdefault(source, []).append(rate)
            costs.setdefault(source, []).append(cost)
        rates.setdefault("the renderer alone", []).append(await contenders.alone(name, count))
    queue = statistics.median(rates["Queue"])
    alone = statistics.median(rates["the renderer alone"])
    print(f"\n{name}: {count} frames of {NBYTES:,} bytes, {rounds} turns, medians")
    print(f"{'':22}{'a second':>10}{'least':>8}{'most':>8}{'/ Queue':>9}{'/ alone':>9}{'server ms':>14}")
    for source, values in rates.items():
        median = statistics.median(values)
        cost = f"{statistics.median(costs[source]) * 1e3:.3f}" if source in costs else ""
        print(
            f"{source:22}{median:10.0f}{min(values):8.0f}{max(values):8.0f}{median / queue:9.1f}{median / alone:9.2f}{cost:>24}"
        )


async def compare_lags(contenders: Contenders, name: RendererName, rounds: int, seconds: float) -> None:
    lags: dict[str, list[float]] = {}
    for _ in range(rounds):
        lags.setdefault("nothing", []).append(percentile(await lags_during(None, seconds), 99))
        for source, make in contenders.sources.items():
            frames = make(name, int(FPS * seconds) + 1, FPS)
            lags.setdefault(source, []).append(percentile(await lags_during(frames, seconds), 99))
    print(f"\n{name}: lag of the loop at {FPS} frames a second, {rounds} turns of {seconds:g} s, medians of the turns")
    print(f"{'':22}{'p99, ms':>10}{'least':>8}{'most':>8}")
    for source, values in lags.items():
        print(f"{source:22}{statistics.median(values) * 1e3:10.2f}{min(values) * 1e3:8.2f}{max(values) * 1e3:8.2f}")


async def main(rounds: int, count: int, seconds: float) -> None:
    names: tuple[RendererName, ...] = ("fill", "music")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # in the peers, because workers of offloop have it
    with ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        async with Pool(1, plugins=[DrawPlugin], memory_limit="1GiB", nice=0) as pool:  # as the peers
            for name in names:
                await compare_rates(Contenders(pool, executor), name, rounds, count)
        async with Pool(1, plugins=[DrawPlugin], memory_limit="1GiB") as pool:
            for name in names:
                await compare_lags(Contenders(pool, executor), name, rounds, seconds)


if __name__ == "__main__":
    given = arguments(__doc__)
    if given.smoke:
        uvloop.run(main(1, 6, 0.2))
    else:
        uvloop.run(main(given.rounds, 100, 2.0))
