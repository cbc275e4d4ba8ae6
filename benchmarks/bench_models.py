"""How many cut-outs a second, with how much memory, and how late is the event loop meanwhile?

Each request is a JPEG of 1000 x 1000 pixels: it is decoded, the person is put before white, and the result is encoded as JPEG,
by all with the standard Huffman tables. The contenders use the same model and take turns, each in a process of its own, with 1,
4 and 64 requests in flight. Before that all their workers have started and have cut out a picture:

- offloop, with and without the refinement of the mask, with a `memory_limit` of 1 GiB, and with the niceness of the others,
  because other load of the machine would slow down its workers only;
- code as in rembg's server: a session with the default options of ONNX Runtime, shared by the threads of `asyncio.to_thread`;
- the same code in a `ProcessPoolExecutor`, with one session in each process.

At the end 200 requests come at once. The start of all workers is printed, too: the seconds until they have cut out some
pictures, and the CPU time. Memory is the peak of the whole tree of processes (PSS). Lag is that of a ticker on the loop.

    python benchmarks/bench_models.py [--smoke] [--rounds 3]

Expected: offloop loses no request and stays within its limit, and the lag is under 5 ms.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec
from measuring import arguments, percentile
from tree_memory import TreeMemory

PHOTO = Path(__file__).parents[1] / "docs" / "photos" / "astronaut.jpg"
WORKERS = len(os.sched_getaffinity(0))
LIMIT_BYTES = 1 << 30
TICK_S = 0.002
AT_ONCE = 200

Work = Callable[[bytes], Awaitable[object]]


class Contender(NamedTuple):
    """One way of cutting out pictures."""

    work: Work
    is_started: Callable[[], bool] = lambda: True  # whether all workers have started


class Taken(msgspec.Struct, frozen=True):
    """Measurements of one contender."""

    per_s: float  # requests a second
    cpu_ms: float  # CPU time of all processes for a request; other programs do not change it much
    peak_mb: float  # peak of the memory of all processes
    lag_ms: float  # 99th percentile of the loop's lag
    lost: int  # requests that ended with an error
    start_s: float  # time of the start of all workers, with their first requests
    start_cpu_s: float  # CPU time of the same


@asynccontextmanager
async def offloop(refine: str) -> AsyncGenerator[Contender]:
    from offloop import Pool
    from offloop_onnx import RemoveBackground
    from offloop_vips import Decode, Jpeg, Raw

    operation = RemoveBackground(background=(255, 255, 255), refine="guided" if refine == "guided" else "none")
    pipeline = [Decode(), Raw(), operation, Jpeg(optimise_coding=False)]
    async with Pool(WORKERS, plugins=["vips", "onnx"], memory_limit=LIMIT_BYTES, timeout=None, nice=0) as pool:

        def work(source: bytes) -> Awaitable[object]:
            return pool.run(source, pipeline)

        yield Contender(work, lambda: pool.statistics().groups["onnx"].workers.get("idle", 0) == WORKERS)


@asynccontextmanager
async def threads() -> AsyncGenerator[Contender]:
    def work(source: bytes) -> Awaitable[object]:
        return asyncio.to_thread(cut_out, source)

    yield Contender(work)


@asynccontextmanager
async def processes() -> AsyncGenerator[Contender]:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(WORKERS) as made:

        def work(source: bytes) -> Awaitable[object]:
            return loop.run_in_executor(made, cut_out, source)

        yield Contender(work)


CONTENDERS: dict[str, Callable[[], AbstractAsyncContextManager[Contender]]] = {
    "offloop": lambda: offloop("guided"),
    "offloop, not refined": lambda: offloop("none"),
    "threads": threads,
    "ProcessPoolExecutor": processes,
}


@cache
def session() -> Any:
    import onnxruntime

    from offloop_onnx.shipped_models import PEOPLE

    runtime: Any = onnxruntime
    return runtime.InferenceSession(PEOPLE.path, providers=["CPUExecutionProvider"])


def cut_out(source: bytes) -> bytes:
    """The steps of rembg: the mask is enlarged, and not refined."""
    import numpy as np
    from PIL import Image

    picture = Image.open(io.BytesIO(source)).convert("RGB")
    small = np.asarray(picture.resize((256, 256), Image.Resampling.LANCZOS), np.float32) / 255
    values: Any = session().run(None, {"image": small[None]})[0]
    mask = Image.fromarray((values[0, ..., 0].clip(0, 1) * 255).astype("u1")).resize(picture.size, Image.Resampling.LANCZOS)
    result = Image.new("RGB", picture.size, "white")
    result.paste(picture, mask=mask)
    encoded = io.BytesIO()
    result.save(encoded, "JPEG", quality=80)
    return encoded.getvalue()


def make_source(side: int) -> bytes:
    import pyvips

    return pyvips.Image.thumbnail(str(PHOTO), side, height=side, size="both").jpegsave_buffer(Q=90)


async def carry_out(name: str, in_flight: int, count: int, source: bytes) -> Taken:
    """Runs one contender in this process and measures it."""
    lags: list[float] = []
    lost = 0
    waiting = iter(range(count))

    async def tick() -> None:
        while True:
            started = perf_counter()
            await asyncio.sleep(TICK_S)
            lags.append(perf_counter() - started - TICK_S)

    async def client(work: Work) -> None:
        nonlocal lost
        for _ in waiting:
            try:
                await work(source)
            except Exception as error:
                lost += 1
                print(f"{name}: {error}", file=sys.stderr)

    with TreeMemory(os.getpid()) as memory:
        started, cpu_s = perf_counter(), memory.cpu_s()
        async with CONTENDERS[name]() as contender:
            await asyncio.gather(*(contender.work(source) for _ in range(2 * WORKERS)))
            while not contender.is_started():
                await asyncio.gather(*(contender.work(source) for _ in range(2 * WORKERS)))
            start_s, start_cpu_s = perf_counter() - started, memory.cpu_s() - cpu_s
            memory.restart()
            ticker = asyncio.create_task(tick())
            started, cpu_s = perf_counter(), memory.cpu_s()
            await asyncio.gather(*(client(contender.work) for _ in range(in_flight)))
            seconds, cpu_s = perf_counter() - started, memory.cpu_s() - cpu_s
            ticker.cancel()
    numbers = count / seconds, 1000 * cpu_s / count, memory.peak_bytes / 1e6, 1000 * percentile(lags, 99)
    return Taken(*numbers, lost, start_s, start_cpu_s)


def measure(name: str, in_flight: int, count: int, side: int) -> Taken:
    """Measures one contender in a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(in_flight), str(count), str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-500:]}")
    return msgspec.convert(json.loads(done.stdout.splitlines()[-1]), Taken)


def main() -> None:
    given = arguments(__doc__)
    rounds, side = (1, 300) if given.smoke else (max(given.rounds // 7, 1), 1000)
    plans = [(1, 4), (4, 8)] if given.smoke else [(1, 8), (4, 16), (64, 64), (AT_ONCE, AT_ONCE)]
    print(f"{WORKERS} workers, {rounds} rounds, pictures of {side} x {side} pixels")
    print(f"{'in flight':>9}  {'':<22}{'per second':>11}{'CPU ms':>8}{'peak MB':>9}{'lag p99 ms':>12}{'lost':>6}")
    starts: dict[str, list[Taken]] = {name: [] for name in CONTENDERS}
    for in_flight, count in plans:
        taken: dict[str, list[Taken]] = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, measured in taken.items():
                measured.append(measure(name, in_flight, count, side))
        for name, measured in taken.items():
            per_s, cpu, lag = (median(measured, field) for field in ("per_s", "cpu_ms", "lag_ms"))
            peak, lost = max(one.peak_mb for one in measured), sum(one.lost for one in measured)
            print(f"{in_flight:9}  {name:<22}{per_s:11.2f}{cpu:8.1f}{peak:9.0f}{lag:12.2f}{lost:6}", flush=True)
            starts[name] += measured
    for name, measured in starts.items():
        print(f"start of {name}: {median(measured, 'start_s'):.2f} s, {median(measured, 'start_cpu_s'):.2f} s of CPU time")


def median(measured: list[Taken], field: str) -> float:
    return statistics.median(getattr(one, field) for one in measured)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        chosen, *numbers = sys.argv[2:]
        flight, requests, width = map(int, numbers)
        measured = asyncio.run(carry_out(chosen, flight, requests, make_source(width)))
        print(json.dumps(msgspec.to_builtins(measured)))
    else:
        main()
