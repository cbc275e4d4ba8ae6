"""How fast is a picture task in a pool beside sharp in Node?

The two tasks that sharp publishes: a JPEG of 2725 x 2225 pixels becomes a JPEG of 720 x 588 and quality 80, and a PNG of
2048 x 1536 pixels with alpha becomes a PNG of 720 x 540. sharp and offloop take turns in one run with equal threads: one task
in flight on one thread, and as many tasks as CPUs, each on one thread. CPU time is that of Node, or of server and workers.
The question "pictures" of the suite has other peers and the floor; this is the same comparison for work on the code.
By default offloop reduces a picture with alpha in float; "PNG, fast" is the PNG with `Resize(fast=True)`: in 8 bits, as sharp.

    npm install --prefix build/sharp sharp
    python benchmarks/bench_sharp.py --node-packages build/sharp

Expected: saturated at least as fast as sharp; one in flight within 10 %; CPU time within 5 % for the JPEG. Without
`--node-packages` only offloop is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import anyio
from sharp_peer import Sharp
from suite.sharp_tasks import TASKS, make_sources
from suite.work import FAST, PUBLISHED
from tree_memory import TreeMemory

from offloop import Operation, Pool


class Work(NamedTuple):
    source: Path
    ours: Sequence[Operation]
    sharps: list[list[Any]]


class Turn(NamedTuple):
    seconds: float  # for each picture
    cpu: float  # CPU seconds for each picture


def prepared(folder: Path) -> dict[str, Work]:
    make_sources(folder)
    return {
        name: Work(folder / TASKS[task].source, PUBLISHED[name], TASKS[task].steps)
        for name, task in (("JPEG", "JPEG"), ("PNG", "PNG"), (FAST["PNG"], "PNG"))
    }


async def of_offloop(pool: Pool, work: Work, count: int, in_flight: int) -> Turn:
    source, left = work.source.read_bytes(), count

    async def lane() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await pool.run(source, work.ours)

    tree = TreeMemory(os.getpid())
    cpu, started = tree.cpu_s(), perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(lane)
    return Turn((perf_counter() - started) / count, (tree.cpu_s() - cpu) / count)


async def of_sharp(sharp: Sharp, work: Work, count: int, in_flight: int) -> Turn:
    request = {"source": str(work.source), "steps": work.sharps, "count": count, "inFlight": in_flight, "threads": 1}
    answer = await anyio.to_thread.run_sync(lambda: sharp.ask(**request))
    return Turn(answer["seconds"] / count, answer["cpu"] / count)


def report(title: str, turns: dict[str, list[Turn]]) -> None:
    medians = {
        name: Turn(statistics.median(turn.seconds for turn in taken), statistics.median(turn.cpu for turn in taken))
        for name, taken in turns.items()
    }
    texts = [
        f"{name} {turn.seconds * 1000:6.1f} ms (least {min(one.seconds for one in turns[name]) * 1000:.1f}), "
        f"CPU {turn.cpu * 1000:5.1f} ms"
        for name, turn in medians.items()
    ]
    ours, peer = medians["offloop"], medians.get("sharp")
    ratio = f": time {ours.seconds / peer.seconds:.2f}, CPU {ours.cpu / peer.cpu:.2f} of sharp's" if peer else ""
    print(f"{title}: {', '.join(texts)}{ratio}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few repetitions, for CI: the numbers mean nothing")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender (default: %(default)s)")
    parser.add_argument("--count", type=int, default=20, help="pictures of each turn (default: %(default)s)")
    parser.add_argument("--node-packages", metavar="FOLDER", help="where `npm install sharp` was done")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    count, rounds = (2, 1) if options.smoke else (options.count, options.rounds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        works = prepared(folder)
        sharp = stack.enter_context(Sharp(options.node_packages, cores)) if options.node_packages else None
        async with Pool(cores, plugins=["vips"], timeout=120) as pool:
            for name, work in works.items():
                for in_flight in (1, cores):
                    contenders: dict[str, Callable[[], Any]] = {
                        "offloop": lambda work=work, in_flight=in_flight: of_offloop(pool, work, count, in_flight)
                    }
                    if sharp is not None:
                        contenders["sharp"] = lambda work=work, in_flight=in_flight, sharp=sharp: of_sharp(
                            sharp, work, count, in_flight
                        )
                    turns: dict[str, list[Turn]] = {contender: [] for contender in contenders}
                    for turn in range(rounds + 1):
                        for contender, call in contenders.items():
                            taken = await call()
                            if turn:  # the first turn warms up
                                turns[contender].append(taken)
                    report(f"{name}, {in_flight} in flight", turns)


asyncio.run(main())
