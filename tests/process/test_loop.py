"""Law 1: the event loop never waits for work, and no copy or page reservation runs on it for long.

A clock that ticks on the loop measures the longest pause. It is held against what the same copy would have paused the
loop for had it run there, measured in the same test, so the machine's speed does not matter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Any

import anyio
import numpy as np
import pytest

from offloop import Pool
from offloop.testing.faults import Allocate, FaultsPlugin, Noop, WriteStderr

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]

LARGE = 192 * 1024 * 1024
ATTEMPTS = 8  # the machine may pause everything for its own reasons, but not as often in a row


async def longest_pause(work: Callable[[], Awaitable[object]]) -> float:
    """Seconds for which a task that only yields was not resumed while the work was done."""
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last = perf_counter()
        while True:
            await anyio.sleep(0)
            now = perf_counter()
            longest, last = max(longest, now - last), now

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(tick)
        await anyio.sleep(0)
        await work()
        task_group.cancel_scope.cancel()
    return longest


def copy_on_the_loop() -> float:
    """Seconds for copying as much right here, onto pages that are there."""
    source, target = bytes(LARGE), bytearray(LARGE)
    started = perf_counter()
    memoryview(target)[:] = source
    return perf_counter() - started


async def as_chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


DATA = bytes(LARGE)
ROWS: Any = np.frombuffer(DATA, "u1").reshape(-1, 4096)
WAYS: dict[str, Callable[[Pool], Awaitable[object]]] = {
    "bytes": lambda pool: pool.run(DATA, [Noop()]),
    "crop": lambda pool: pool.run(ROWS[:, 16:], [Noop()]),
    "mirror": lambda pool: pool.run(ROWS[:, ::-1], [Noop()]),
    "strided bytes": lambda pool: pool.run(memoryview(DATA)[::2], [Noop()]),
    "buffer": lambda pool: pool.buffer(LARGE).ready(),
    "stream": lambda pool: pool.receive(as_chunks(DATA)),
    "result": lambda pool: pool.run(b"", [Allocate(LARGE)]),
    "stderr": lambda pool: pool.run(b"", [WriteStderr(20_000_000)]),
}


@pytest.mark.parametrize("way", WAYS)
async def test_the_loop_goes_on_while_much_is_moved(anyio_backend: object, way: str) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="1GiB", timeout=None) as pool:
        allowed = 0.0
        pauses: list[float] = []
        for _ in range(ATTEMPTS):
            allowed = copy_on_the_loop() / 3
            pauses.append(await longest_pause(partial(WAYS[way], pool)))
            if pauses[-1] < allowed:
                return
        pytest.fail(f"the loop paused for {pauses} s; copying on it would have taken {allowed * 3:.4f} s")
