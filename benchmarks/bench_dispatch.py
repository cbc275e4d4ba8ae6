"""What does it cost to send a task to a worker and to receive its answer?

Measures the round trip of a no-op to one worker process, one task at a time. In turns in the same run:

- the physical floor: a byte through a pair of blocking pipes to a child that echoes it;
- the floor of any supervisor on this loop: the same through anyio's process pipes on uvloop;
- a no-op in one worker of `concurrent.futures.ProcessPoolExecutor`, of `anyio.to_process`, and of loky if it is installed.

    python benchmarks/bench_dispatch.py

Expected: the median of offloop is at most 2.5 times that of the bare anyio + uvloop pipe pair. That requires a compiled
offloop, `HATCH_BUILD_HOOKS_ENABLE=true python -m pip install .`; an interpreted one is slower. The output shows which one was
measured.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AsyncExitStack

import anyio
import anyio.to_process
from measuring import arguments, percentile, take_turns

from offloop import Pool
from offloop.core import pool_state
from offloop.testing.faults import FaultsPlugin, Noop

ECHO = "import os\nwhile data := os.read(0, 65536): os.write(1, data)"
MESSAGE = b"x" * 64  # about the length of a `Run` message
FLOOR = "anyio + uvloop pipe pair"


def nothing() -> None:
    """The task of the peers."""


async def open_contenders(stack: AsyncExitStack) -> dict[str, Callable[[], Awaitable[object]]]:
    """Start all contenders. The stack ends them."""
    pipes = stack.enter_context(subprocess.Popen([sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    stack.callback(pipes.kill)
    assert pipes.stdin is not None
    assert pipes.stdout is not None
    to_child, from_child = pipes.stdin.fileno(), pipes.stdout.fileno()

    async def raw_pipes() -> None:
        os.write(to_child, MESSAGE)
        os.read(from_child, 65536)

    process = await stack.enter_async_context(await anyio.open_process([sys.executable, "-c", ECHO]))
    stack.callback(process.kill)

    async def anyio_pipes() -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(MESSAGE)
        await process.stdout.receive()

    pool = await stack.enter_async_context(Pool(1, plugins=[FaultsPlugin]))
    contenders: dict[str, Callable[[], Awaitable[object]]] = {
        "raw pipe pair, blocking": raw_pipes,
        FLOOR: anyio_pipes,
        "offloop": lambda: pool.run(b"", [Noop()]),
        "offloop, 4 KiB in": lambda: pool.run(bytes(4096), [Noop()]),
        "ProcessPoolExecutor": in_executor(stack.enter_context(ProcessPoolExecutor(1))),
        "anyio.to_process": lambda: anyio.to_process.run_sync(nothing),
    }
    try:
        from loky import ProcessPoolExecutor as LokyExecutor
    except ImportError:
        pass
    else:
        contenders["loky"] = in_executor(stack.enter_context(LokyExecutor(1)))
    return contenders


def in_executor(executor: Executor) -> Callable[[], Awaitable[object]]:
    loop = asyncio.get_running_loop()
    return lambda: loop.run_in_executor(executor, nothing)


async def main() -> None:
    options = arguments(__doc__)
    rounds, repetitions = (1, 5) if options.smoke else (options.rounds, 200)
    async with AsyncExitStack() as stack:
        samples = await take_turns(await open_contenders(stack), rounds, repetitions)
    floor = percentile(samples[FLOOR], 50)
    kind = "interpreted" if pool_state.__file__.endswith(".py") else "compiled"
    print(f"a no-op and back, one at a time; {rounds} turns of {repetitions} each; microseconds; offloop is {kind}")
    print(f"{'':28}{'p50':>8}{'p99':>8}{'p50 / anyio + uvloop pipes':>30}")
    for name, values in samples.items():
        p50, p99 = percentile(values, 50), percentile(values, 99)
        print(f"{name:28}{p50 * 1e6:8.1f}{p99 * 1e6:8.1f}{p50 / floor:30.2f}")


if __name__ == "__main__":
    anyio.run(main, backend_options={"use_uvloop": True})
