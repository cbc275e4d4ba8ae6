"""pytest fixtures: pools that are closed and checked after the test.

pytest loads this plugin if offloop is installed. The fixtures are asynchronous and run on anyio's plugin, so tests need
`pytest.mark.anyio`; their loop is that of `anyio_backend`. The rest of offloop is imported when a fixture is used.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from offloop import Pool

__all__ = ["offloop_pool", "offloop_pool_factory", "offloop_pool_settings"]


@pytest.fixture
async def offloop_pool_factory(anyio_backend: object) -> AsyncIterator[Callable[..., Awaitable[Pool]]]:  # noqa: ARG001
    """A function that returns running pools: `pool = await offloop_pool_factory(2, plugins=[...])`, or with a pool that is not
    entered, `await offloop_pool_factory(scripted_pool(...))`.

    After the test, each pool is closed and checked: every task has exactly one outcome, there is no lease, and there is no
    child process and no name in /dev/shm that was not there before the test.
    """
    import anyio  # noqa: PLC0415 (because pytest loads this module in every run of every project)

    from offloop import Pool  # noqa: PLC0415

    from .leftovers import Surroundings, assert_nothing_left  # noqa: PLC0415

    before = Surroundings.now()
    pools: list[Pool] = []
    is_over = anyio.Event()

    async def run_pool(pool: Pool, *, task_status: TaskStatus[Pool]) -> None:
        """Enters the pool in a task of its own, because a pool must be left in the scope in which it was entered."""
        async with pool:
            pools.append(pool)
            task_status.started(pool)
            await is_over.wait()
            gc.collect()  # because the traceback of a caught error may refer to a result

    async def factory(pool: Pool | int | None = None, /, **settings: Any) -> Pool:
        if not isinstance(pool, Pool):
            pool = Pool(**settings) if pool is None else Pool(pool, **settings)
        started: Pool = await task_group.start(run_pool, pool)
        return started

    async with anyio.create_task_group() as task_group:
        yield factory
        is_over.set()
    for pool in pools:
        assert_nothing_left(pool, before)


@pytest.fixture
def offloop_pool_settings() -> dict[str, Any]:
    """Arguments of `Pool` for `offloop_pool`; empty by default. Override it in a module or a conftest.py."""
    return {}


@pytest.fixture
async def offloop_pool(offloop_pool_factory: Callable[..., Awaitable[Pool]], offloop_pool_settings: dict[str, Any]) -> Pool:
    """A running pool with the settings of `offloop_pool_settings`, closed and checked after the test."""
    return await offloop_pool_factory(**offloop_pool_settings)
