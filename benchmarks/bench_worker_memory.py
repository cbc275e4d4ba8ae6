"""How much memory do workers keep after thousands of mixed tasks and after idling, and what does returning it cost?

Two workers make small pictures of JPEG, PNG and WebP sources between 200 and 3,200 pixels wide, four at a time. Two pools take
turns: one with offloop's settings, and one with the C library's default settings (without the `MALLOC_` variables). The
private memory (RssAnon) of each worker is measured after every tenth of the tasks, and after five seconds without a task.

    python benchmarks/bench_worker_memory.py

Expected: the same memory after a tenth and after all of the tasks; under 25 MB after idling; not slower than the C library's
default settings.
"""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import anyio
import numpy as np
import pyvips
from measuring import arguments

from offloop import Pool
from offloop.runtime.workers.command_line import DEFAULT_ENVIRONMENT
from offloop_vips import Jpeg, Png, Resize, Webp

WORKERS = 2
AT_A_TIME = 4
IDLE_S = 5.0
PARTS = 10
POOLS: Mapping[str, Mapping[str, str | None]] = {
    "offloop": {},
    "the C library's own settings": {name: None for name in DEFAULT_ENVIRONMENT if name.startswith("MALLOC_")},
}


class Run(NamedTuple):
    """Measurements of one pool."""

    seconds: float
    private_mb: list[float]  # private memory of the larger worker in MB, after each tenth
    idle_mb: float


def sources(largest: int) -> list[bytes]:
    """Returns the sources, which are the same for all pools."""
    made: list[bytes] = []
    for width in (200, 800, 1600, 3200):
        if width <= largest:
            rng = np.random.default_rng(width)
            noise = rng.integers(0, 255, (width * 7 // 80, width // 8, 3), dtype=np.uint8)
            picture = pyvips.Image.new_from_array(noise).resize(8)
            made += [picture.write_to_buffer(suffix) for suffix in (".jpg", ".png", ".webp")]
    return made


def children() -> set[int]:
    """Returns the pids of this process's workers."""
    found: set[int] = set()
    for entry in Path("/proc").iterdir():
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) if entry.name.isdigit() else 0
            if parent == os.getpid() and b"offloop.worker" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except OSError:  # the process has ended
            continue
    return found


def largest_private_mb() -> float:
    """Returns the private memory of the worker with the most."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in children()]
    return max(int(line.split()[1]) / 1024 for text in texts for line in text.splitlines() if line.startswith("RssAnon"))


async def measure(environment: Mapping[str, str | None], pictures: list[bytes], tasks: int) -> Run:
    chosen = random.Random(3)
    taking = anyio.Semaphore(AT_A_TIME)

    async def one(pool: Pool, source: bytes, width: int, encoder: Webp | Jpeg | Png) -> None:
        async with taking:
            await pool.run(source, [Resize(width, width, fit="inside"), encoder])

    async with Pool(WORKERS, environment=environment) as pool:
        private_mb: list[float] = []
        started = perf_counter()
        for _ in range(PARTS):
            async with anyio.create_task_group() as task_group:
                for _ in range(tasks // PARTS):
                    encoder = chosen.choice([Webp(), Jpeg(), Png()])
                    task_group.start_soon(one, pool, chosen.choice(pictures), chosen.choice([100, 320, 1000]), encoder)
            private_mb.append(largest_private_mb())
        seconds = perf_counter() - started
        await anyio.sleep(IDLE_S)
        return Run(seconds, private_mb, largest_private_mb())


async def main() -> None:
    given = arguments(__doc__)
    pictures = sources(800 if given.smoke else 3200)
    rounds, tasks = (1, 20) if given.smoke else (max(given.rounds // 7, 1), 1000)
    runs: dict[str, list[Run]] = {name: [] for name in POOLS}
    for _ in range(rounds):
        for name, environment in POOLS.items():
            runs[name].append(await measure(environment, pictures, tasks))
    print(f"{tasks:,} tasks, {rounds} rounds; MB of private memory of the larger worker, worst round")
    print(f"{'':<30} {'a tenth':>8} {'all':>8} {'most':>8} {'idle':>8} {'seconds':>8}")
    for name, made in runs.items():
        first, last, most = (max(pick(run) for run in made) for pick in (_first, _last, _most))
        idle, seconds = max(run.idle_mb for run in made), statistics.median(run.seconds for run in made)
        print(f"{name:<30} {first:8.0f} {last:8.0f} {most:8.0f} {idle:8.0f} {seconds:8.1f}")


def _first(run: Run) -> float:
    return run.private_mb[0]


def _last(run: Run) -> float:
    return run.private_mb[-1]


def _most(run: Run) -> float:
    return max(run.private_mb)


if __name__ == "__main__":
    anyio.run(main)
