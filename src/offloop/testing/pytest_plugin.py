"""Fixtures for pytest: pools that are closed after the test, and checked.

pytest loads this by itself where offloop is installed. The fixtures are asynchronous and run on anyio's plugin, so they are for
tests with `pytest.mark.anyio`, on whatever loop `anyio_backend` says. Nothing of offloop is loaded before one is used.
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
    """A function that gives running pools: `pool = await offloop_pool_factory(2, plugins=[...])`, or with a pool that was made
    and not entered, `await offloop_pool_factory(scripted_pool(...))`.

    After the test each is closed, and must have left nothing: every task had its one outcome, nobody holds a lease, and no
    child process and no name in /dev/shm is there that was not there before.
    """
    import anyio  # noqa: PLC0415 (pytest loads this module in every run of every project)

    from offloop import Pool  # noqa: PLC0415

    from .leftovers import Surroundings, assert_nothing_left  # noqa: PLC0415

    before = Surroundings.now()
    pools: list[Pool] = []
    over = anyio.Event()

    async def keep(pool: Pool, *, task_status: TaskStatus[Pool]) -> None:
        """A task of its own: a pool that a test enters among its own scopes would have to be left among them."""
        async with pool:
            pools.append(pool)
            task_status.started(pool)
            await over.wait()
            gc.collect()  # a caught error's traceback may refer to a result

    async def factory(pool: Pool | int | None = None, /, **settings: Any) -> Pool:
        if not isinstance(pool, Pool):
            pool = Pool(**settings) if pool is None else Pool(pool, **settings)
        started: Pool = await task_group.start(keep, pool)
        return started

    async with anyio.create_task_group() as task_group:
        yield factory
        over.set()
    for pool in pools:
        assert_nothing_left(pool, before)


@pytest.fixture
def offloop_pool_settings() -> dict[str, Any]:
    """What `offloop_pool` is made with: nothing but defaults. Override it in a module or a conftest.py."""
    return {}


@pytest.fixture
async def offloop_pool(offloop_pool_factory: Callable[..., Awaitable[Pool]], offloop_pool_settings: dict[str, Any]) -> Pool:
    """A running pool, made with `offloop_pool_settings`; closed and checked after the test."""
    return await offloop_pool_factory(**offloop_pool_settings)
