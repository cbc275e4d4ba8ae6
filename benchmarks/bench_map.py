"""How fast is `Pool.map` with many sources, and does its memory stay flat?

In turns, in the same run, on the same pool:

- `map`: `pool.map` over the sources;
- `run`: a task group with a task for each source, and a `CapacityLimiter` of as many places as `map` has tasks in flight.

First no-ops, then thumbnails of a photograph. The memory is the growth of this process's private memory per 1,000 sources, over
the last half of a long `map`.

    python benchmarks/bench_map.py

Expected: `map` is at least as fast as `run`, and takes less than 1 KB per 1,000 sources.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter

import anyio
from measuring import arguments

from offloop import Operation, Pool
from offloop.testing.faults import FaultsPlugin, Noop
from offloop_vips import Resize, VipsPlugin, Webp

PHOTO = Path(__file__).parents[1] / "docs" / "photos" / "astronaut.jpg"
IN_FLIGHT = 8

Way = Callable[[Pool, bytes, int, Sequence[Operation]], Awaitable[None]]


async def by_map(pool: Pool, source: bytes, count: int, pipeline: Sequence[Operation]) -> None:
    async with pool.map((source for _ in range(count)), pipeline, max_in_flight=IN_FLIGHT) as outcomes:
        async for outcome in outcomes:
            outcome.unwrap()


async def by_run(pool: Pool, source: bytes, count: int, pipeline: Sequence[Operation]) -> None:
    limiter = anyio.CapacityLimiter(IN_FLIGHT)

    async def run() -> None:
        async with limiter:
            await pool.run(source, pipeline)

    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(run)


async def compare(pool: Pool, title: str, source: bytes, count: int, pipeline: Sequence[Operation], rounds: int) -> None:
    ways: dict[str, Way] = {"map": by_map, "run": by_run}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = perf_counter()
            await way(pool, source, count, pipeline)
            rates[name].append(count / (perf_counter() - started))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    texts = ", ".join(f"{name} {medians[name]:,.0f} a second (most {max(rates[name]):,.0f})" for name in ways)
    print(f"{title}, {count:,} in {rounds} rounds: {texts}: {medians['map'] / medians['run']:.2f} times the rate")


async def growth(pool: Pool, count: int) -> float:
    """Growth of the private memory in bytes per 1,000 sources, over the last half of them."""
    marks: list[int] = []

    def sources() -> Iterator[bytes]:
        for index in range(count):
            if index in (count // 2, count - 1):
                gc.collect()
                marks.append(private_bytes())
            yield b""

    async with pool.map(sources(), [Noop()]) as outcomes:
        async for outcome in outcomes:
            outcome.unwrap()
    return (marks[1] - marks[0]) / (count / 2 / 1000)


def private_bytes() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


async def main() -> None:
    options = arguments(__doc__)
    noops, pictures, rounds = (200, 4, 1) if options.smoke else (20_000, 500, min(options.rounds, 5))
    async with Pool(plugins=[FaultsPlugin, VipsPlugin]) as pool:
        await compare(pool, "no-ops", b"", noops, [Noop()], rounds)
        await compare(pool, "thumbnails", PHOTO.read_bytes(), pictures, [Resize(128), Webp()], rounds)
        total = 1_000 if options.smoke else 100_000
        print(f"memory of a map of {total:,} no-ops: {await growth(pool, total):+,.0f} bytes per 1,000 sources")


if __name__ == "__main__":
    asyncio.run(main())
