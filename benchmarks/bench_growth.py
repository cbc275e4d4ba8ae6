"""Does the memory of a server grow with the number of its tasks?

100,000 no-ops and 2,000 pictures, eight at a time on two workers, after a warm-up. Measured at the start and after every tenth
of the tasks: the private memory of this process (RssAnon), the allocated blocks of Python's allocator (exact, while pages are
coarse), descriptors, and the pool's leases. The last row is a control: no-ops that leak 1 KB per 1,000 tasks. If its row does
not differ from the others, the measurement is not precise enough.

    python benchmarks/bench_growth.py            (--trace: name the lines whose memory grew; slow)

Expected: under 1 KB per 1,000 tasks, descriptors flat, no lease.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tracemalloc
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import anyio
from measuring import arguments

from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Noop

AT_A_TIME = 8
PHOTO = Path(__file__).resolve().parent.parent / "docs" / "photos" / "astronaut.jpg"


class Size(NamedTuple):
    """Memory, descriptors and leases of this process at one moment."""

    own_bytes: int
    python_blocks: int
    descriptors: int

    @classmethod
    def now(cls) -> Size:
        gc.collect()
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return cls(int(line.split()[1]) * 1024, sys.getallocatedblocks(), len(os.listdir("/proc/self/fd")))


async def run_many(number: int, task: Callable[[], Awaitable[object]]) -> None:
    async def some(share: int) -> None:
        for _ in range(share):
            await task()

    async with anyio.create_task_group() as task_group:
        for index in range(AT_A_TIME):
            task_group.start_soon(some, number // AT_A_TIME + (index < number % AT_A_TIME))


async def watch(pool: Pool, name: str, number: int, task: Callable[[], Awaitable[object]]) -> None:
    """Run a tenth of the tasks as a warm-up, then the rest in tenths. Print a line for all of them."""
    await run_many(max(1, number // 10), task)
    before = Size.now()
    sizes = [before]
    started = perf_counter()
    for _ in range(10):
        await run_many(number // 10, task)
        sizes.append(Size.now())
    seconds = perf_counter() - started
    after = sizes[-1]
    grown = after.own_bytes - before.own_bytes
    numbers = pool.statistics()
    leases = {holder: count for holder, count in numbers.leases.items() if count and holder != "preallocated"}
    print(
        f"{name:10}{number:>9,}{seconds:8.1f} s"
        f"{before.own_bytes / 1024:10,.0f}{after.own_bytes / 1024:10,.0f}{grown / number:14.2f}"
        f"{after.python_blocks - before.python_blocks:+10,}"
        f"{before.descriptors:6} -> {after.descriptors}   {leases or 'none'}"
    )
    print(f"{'':10}own memory along the way, KiB: {', '.join(f'{size.own_bytes // 1024:,}' for size in sizes)}")


def parse() -> argparse.Namespace:
    trace = "--trace" in sys.argv
    if trace:
        sys.argv.remove("--trace")
    options = arguments(__doc__)
    options.trace = trace
    return options


async def main() -> None:
    options = parse()
    noops, pictures = (1000, 20) if options.smoke else (100_000, 2_000)
    print(f"{'':10}{'tasks':>9}{'':10}{'KiB before':>10}{'after':>10}{'KB per 1,000':>14}{'blocks':>10}  descriptors   leases")
    async with Pool(2, plugins=["vips", FaultsPlugin], memory_limit="256MiB") as pool:
        if options.trace:
            tracemalloc.start(10)
        await watch(pool, "no-ops", noops, lambda: pool.run(b"", [Noop()]))
        snapshot = tracemalloc.take_snapshot() if options.trace else None
        await watch(pool, "pictures", pictures, pictures_of(pool))
        await watch(pool, "control", noops // 2, leaking(pool))
        if snapshot is not None:
            for line in tracemalloc.take_snapshot().compare_to(snapshot, "lineno")[:15]:
                print(line)


def leaking(pool: Pool) -> Callable[[], Awaitable[object]]:
    """No-ops with a leak of the smallest size that is not allowed."""
    kept: list[bytes] = []
    numbers = count(1)

    async def task() -> None:
        await pool.run(b"", [Noop()])
        if next(numbers) % 100 == 0:
            kept.append(bytes(100))

    return task


def pictures_of(pool: Pool) -> Callable[[], Awaitable[object]]:
    from offloop_vips import Resize, Webp

    data = PHOTO.read_bytes()
    return lambda: pool.run(data, [Resize(160, 120), Webp(effort=0)])


if __name__ == "__main__":
    anyio.run(main, backend_options={"use_uvloop": True})
