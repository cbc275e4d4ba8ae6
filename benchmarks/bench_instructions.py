"""How many instructions of Python do the server and the worker execute for one small task?

Counts bytecode instructions, which depend little on the load of the machine: for a no-op, for a call of a function with 4 KiB
that it returns, and for a thumbnail of a small JPEG. The server's are those of the event loop's thread, beside a real worker.
The worker's are those of a worker's thread in `Pool(inline=True)`. Each number is the lowest of some runs. A task that takes
longer than a millisecond, because the machine is busy, costs the server some 300 instructions more: the cost model learns.

    python benchmarks/bench_instructions.py
    python benchmarks/bench_instructions.py --record

Expected: no more than the recorded numbers and a tolerance. `--record` writes `benchmarks/instruction_counts.json` for this
version of Python. `tests/process/test_instruction_counts.py` compares them.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pyvips
from call_work import echo_bytes_of_pool
from measuring import parser_of
from thumbnails import PIPELINE

from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Noop

__all__ = ["RECORD", "TOLERANCE", "count_all", "recorded"]

RECORD = Path(__file__).with_name("instruction_counts.json")
TOLERANCE = 0.08
"""Share by which a number may exceed the recorded one."""

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PAYLOAD = bytes(4096)

SIDE = 640  # pixels of the picture's sides

Trace = Callable[[FrameType, str, Any], Any]


class InstructionCounter:
    """Counts the instructions of functions that are entered, by thread, while it is on."""

    def __init__(self) -> None:
        self.is_on = False
        self.by_thread: Counter[int] = Counter()

    def trace(self, frame: FrameType, event: str, _argument: object) -> Trace | None:
        """Trace function of a thread."""
        if not self.is_on:
            return None
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            self.by_thread[threading.get_ident()] += 1
        return self.trace


def small_jpeg() -> bytes:
    """Returns a picture: a gradient in three bands."""
    bands = pyvips.Image.xyz(SIDE, SIDE)
    return bands.bandjoin(bands[0]).cast("uchar").write_to_buffer(".jpg")


@asynccontextmanager
async def open_pool(*, inline: bool) -> AsyncGenerator[Pool]:
    async with Pool(
        1, plugins=[FaultsPlugin, "functions", "vips"], functions=["call_work"], memory_limit="1GiB", inline=inline
    ) as pool:
        yield pool


def cases(pool: Pool, picture: bytes) -> dict[str, Callable[[], Awaitable[object]]]:
    return {
        "no-op": lambda: pool.run(b"", [Noop()]),
        "call with 4 KiB": lambda: pool.call(echo_bytes_of_pool, PAYLOAD),
        "thumbnail": lambda: pool.run(picture, PIPELINE),
    }


async def count_side(counter: InstructionCounter, runs: int, *, of_worker: bool) -> dict[str, int]:
    """Returns the instructions of one side for each case."""
    picture = small_jpeg()
    own = threading.get_ident()
    found: dict[str, int] = {}
    async with open_pool(inline=of_worker) as pool:
        for name, run in cases(pool, picture).items():
            for _ in range(10):
                await run()
            counts: list[int] = []
            for _ in range(runs):
                counter.by_thread.clear()
                counter.is_on = True
                if not of_worker:
                    sys.settrace(counter.trace)
                await run()
                sys.settrace(None)
                if of_worker:
                    await anyio.sleep(0.01)  # the worker's loop goes on after its answer
                counter.is_on = False
                counts.append(sum(n for thread, n in counter.by_thread.items() if (thread != own) is of_worker))
            found[name] = min(counts)  # because tasks of the pool itself may run beside it
    return found


def count_all(runs: int = 15) -> dict[str, int]:
    """Returns the instructions of each side and case: "server, no-op", ..."""
    counter = InstructionCounter()
    server = anyio.run(lambda: count_side(counter, runs, of_worker=False))
    threading.settrace(counter.trace)
    try:
        worker = anyio.run(lambda: count_side(counter, runs, of_worker=True))
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
    sides = {"server": server, "worker": worker}
    return {f"{side}, {name}": count for side, counts in sides.items() for name, count in counts.items()}


def recorded() -> dict[str, int]:
    """Returns the recorded numbers of this version of Python; nothing if there are none."""
    return json.loads(RECORD.read_text()).get(VERSION, {})


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--record", action="store_true", help="write the numbers into the record")
    options = parser.parse_args()
    counts, before = count_all(3 if options.smoke else 15), recorded()
    print(f"instructions of Python {VERSION} for one task\n{'':26}{'now':>10}{'recorded':>10}")
    for name, count in counts.items():
        print(f"{name:26}{count:10,}{before.get(name, 0):10,}")
    if options.record:
        RECORD.write_text(json.dumps(json.loads(RECORD.read_text()) | {VERSION: counts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
