"""What does it cost to bring bytes to a worker, by size?

A worker is given 4 KiB to 128 MiB and does nothing with them. In turns, in the same run:

- `bytes`: offloop copies them once, into the inbox that all workers map (`private_sources=False`);
- `Buffer`: the caller filled shared memory before, and moves it; what is timed is the move and the round trip, after a no-op
  that brings the CPU's caches back to the same state for each size;
- private: bytes with the default, which copies them once more, into the inbox of the task's worker;
- memcpy: the same bytes copied once within this process, into memory that has its pages. The physical floor of a copy;
- `ProcessPoolExecutor`: the same bytes pickled through a pipe.

    python benchmarks/bench_payload.py

Expected: a moved Buffer of 128 MiB takes at most 1.5 times the 4 KiB round trip; bytes at most 1.3 times a memcpy once
they are large.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import statistics
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

import anyio
from measuring import arguments

from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Noop

KIB, MIB = 1024, 1024 * 1024
SIZES = [4 * KIB, 64 * KIB, MIB, 8 * MIB, 32 * MIB, 128 * MIB]


async def from_bytes(pool: Pool, data: bytes) -> float:
    started = perf_counter()
    await pool.run(data, [Noop()])
    return perf_counter() - started


async def from_buffer(pool: Pool, data: bytes) -> float:
    buffer = await pool.buffer(len(data)).ready()
    buffer.view[:] = data
    await pool.run(b"", [Noop()])  # filling it emptied the CPU's caches, which is not what is asked here
    started = perf_counter()
    await pool.run(buffer, [Noop()])
    return perf_counter() - started


def by_memcpy(target: ctypes.Array[ctypes.c_char], data: bytes) -> float:
    started = perf_counter()
    ctypes.memmove(target, data, len(data))
    return perf_counter() - started


async def by_pickle(executor: ProcessPoolExecutor, data: bytes) -> float:
    started = perf_counter()
    await asyncio.get_running_loop().run_in_executor(executor, len, data)
    return perf_counter() - started


async def main() -> None:
    options = arguments(__doc__)
    rounds = 2 if options.smoke else options.rounds
    sizes = SIZES[:3] if options.smoke else SIZES
    print(f"nothing is done with the bytes; medians of {rounds} turns; microseconds (spread: interquartile range)")
    print(
        f"{'size':>10}{'bytes':>12}{'Buffer':>12}{'private':>12}{'memcpy':>12}{'pickle':>12}"
        f"{'bytes/memcpy':>15}{'Buffer/4 KiB':>15}   spread of bytes"
    )
    smallest: float | None = None
    with ProcessPoolExecutor(1) as executor:
        async with (
            Pool(1, plugins=[FaultsPlugin], memory_limit="1GiB", private_sources=False) as pool,
            Pool(1, plugins=[FaultsPlugin], memory_limit="1GiB") as private_pool,
        ):
            for size in sizes:
                data = bytes(range(256)) * (size // 256)
                target = ctypes.create_string_buffer(size)
                samples: dict[str, list[float]] = {"bytes": [], "buffer": [], "private": [], "memcpy": [], "pickle": []}
                for turn in range(rounds + 2):  # two turns to bring the pages in
                    gc.collect()
                    row = {
                        "bytes": await from_bytes(pool, data),
                        "buffer": await from_buffer(pool, data),
                        "private": await from_bytes(private_pool, data),
                        "memcpy": by_memcpy(target, data),
                        "pickle": await by_pickle(executor, data),
                    }
                    if turn >= 2:
                        for name, seconds in row.items():
                            samples[name].append(seconds)
                median = {name: statistics.median(values) for name, values in samples.items()}
                smallest = smallest or median["buffer"]
                low, _, high = statistics.quantiles(samples["bytes"], n=4) if rounds > 1 else (0.0, 0.0, 0.0)
                cells = "".join(f"{median[name] * 1e6:12.0f}" for name in ("bytes", "buffer", "private", "memcpy", "pickle"))
                ratios = f"{median['bytes'] / median['memcpy']:15.2f}{median['buffer'] / smallest:15.2f}"
                print(f"{size // KIB:>6} KiB{cells}{ratios}   {low * 1e6:.0f}..{high * 1e6:.0f}")


if __name__ == "__main__":
    anyio.run(main, backend_options={"use_uvloop": True})
