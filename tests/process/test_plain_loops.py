"""A pool in a loop that anyio did not start, as in a server: loop callbacks run in no task, and anyio does not know
the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from offloop import Pool, WorkerDied
from offloop.testing.faults import Allocate, Echo, Exit, FaultsPlugin, Hang


async def live() -> int:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        results = [await pool.run(bytes(3_000_000), [Echo()]), await pool.run(b"", [Allocate(5_000_000)])]
        with pytest.raises(WorkerDied):
            await pool.run(b"", [Exit(1)])
        async with asyncio.TaskGroup() as task_group:
            for _ in range(10):
                task_group.create_task(pool.run(b"abc", [Echo()]))
        return sum(result.nbytes for result in results)


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_pool_lives_in_a_loop_that_anyio_did_not_start(runner: Callable[[Coroutine[Any, Any, int]], int]) -> None:
    assert runner(live()) == 8_000_000


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_task_that_is_cancelled_by_asyncio_leaves_nothing(runner: Callable[[Coroutine[Any, Any, int]], int]) -> None:
    async def leave() -> int:
        async with Pool(1, plugins=[FaultsPlugin], grace=0.1) as pool:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await pool.run(b"", [Hang("hold_gil")])
            return pool.statistics().cancelled

    assert runner(leave()) == 1
