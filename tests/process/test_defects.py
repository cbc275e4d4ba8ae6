"""A defect in offloop ends the pool: every caller gets `InternalError`, and no process or memory is left."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from offloop import InternalError, Pool
from offloop.core.model.events import WorkerSpawned
from offloop.runtime.supervisor import Supervisor
from offloop.testing.faults import Echo, FaultsPlugin, Wait

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]

MIB = 1024 * 1024


def strike(pool: Pool) -> None:
    """Tell the core what cannot be."""
    supervisor = pool._supervisor
    assert isinstance(supervisor, Supervisor)
    supervisor.apply(WorkerSpawned(99, 1))


async def test_every_waiting_caller_gets_the_defect(anyio_backend: object) -> None:
    told: list[str] = []

    async def hear(what: str, waiting: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(InternalError, match="KeyError"):
            await waiting()
        told.append(what)

    with anyio.fail_after(20), pytest.raises(InternalError, match="KeyError"):
        async with Pool(1, plugins=[FaultsPlugin], memory_limit=4 * MIB) as pool, anyio.create_task_group() as callers:
            callers.start_soon(hear, "task", lambda: pool.run(b"", [Wait(60)]))
            await anyio.wait_all_tasks_blocked()
            held = pool.buffer(2 * MIB)
            callers.start_soon(hear, "memory", lambda: pool.run(bytes(2 * MIB), [Echo()]))
            callers.start_soon(hear, "size", lambda: pool.resize(2))
            await anyio.sleep(0)
            callers.start_soon(hear, "end", pool.drain)
            await anyio.sleep(0)
            strike(pool)
            del held
    assert sorted(told) == ["end", "memory", "size", "task"]


async def test_a_pool_with_a_defect_accepts_no_task_and_starts_no_worker(anyio_backend: object) -> None:
    """Its block may take its time to end: no worker is started for those that were killed."""
    with anyio.fail_after(20), pytest.raises(InternalError, match="KeyError"):
        async with Pool(2, plugins=[FaultsPlugin]) as pool:
            starts = pool.statistics().worker_starts
            strike(pool)
            with pytest.raises(InternalError, match="KeyError"):
                await pool.run(b"abc", [Echo()])
            with pytest.raises(InternalError, match="KeyError"):
                pool.buffer(10)
            await anyio.sleep(0.2)  # for what must not happen
            assert pool.statistics().worker_starts == starts


async def test_the_timer_of_a_pool_with_a_defect_does_not_spin(anyio_backend: object) -> None:
    with anyio.fail_after(20), pytest.raises(InternalError, match="KeyError"):
        async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as task_group:
            task_group.start_soon(run_into_it, pool)
            await anyio.wait_all_tasks_blocked()
            strike(pool)
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.3)  # now the task's time is up
                before = time.thread_time()
                await anyio.sleep(0.5)
                assert time.thread_time() - before < 0.1


async def run_into_it(pool: Pool) -> None:
    with pytest.raises(InternalError):
        await pool.run(b"", [Wait(60)], timeout=0.3)
