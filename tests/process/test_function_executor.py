"""`pool.as_executor()`: the executor of libraries and of other threads; a cancelled future stops its function."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import jobs
import pytest

from offloop import InvalidTask, Pool, TaskFailed
from offloop.errors import PoolClosed

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]


@pytest.fixture
async def pool(offloop_pool_factory: Callable[..., Awaitable[Pool]]) -> Pool:
    return await offloop_pool_factory(1, plugins=["functions"], memory_limit="256MiB")


async def test_other_threads_call_functions(anyio_backend: object, pool: Pool) -> None:
    executor = pool.as_executor(timeout=30)

    def in_thread() -> None:
        assert executor.submit(jobs.add, 1, 2, scale=2).result(20) == 6
        assert list(executor.map(jobs.echo_number, range(20))) == list(range(20))
        with pytest.raises(TaskFailed):
            executor.submit(jobs.fail, "text").result(20)
        with pytest.raises(InvalidTask):
            executor.submit(lambda: 1).result(20)
        hanging = executor.submit(jobs.hang)
        waiting = executor.submit(jobs.hang)
        while not pool.statistics().running:
            time.sleep(0.001)
        assert waiting.cancel()
        assert hanging.cancel()
        assert concurrent.futures.wait([hanging, waiting], 20).not_done == set()
        with executor:
            future = executor.submit(jobs.echo_number, 7)
        assert future.done()
        assert future.result() == 7
        with pytest.raises(RuntimeError, match="shut down"):
            executor.submit(jobs.echo_number, 7)

    await anyio.to_thread.run_sync(in_thread)
    assert pool.statistics().running == 0
    assert pool.statistics().cancelled == 2


async def test_the_pools_own_thread_must_not_block_on_it(anyio_backend: object, pool: Pool) -> None:
    executor = pool.as_executor()
    future = executor.submit(jobs.hang)
    with pytest.raises(RuntimeError, match="1 futures need this thread to finish"):
        executor.shutdown()
    executor.shutdown(cancel_futures=True)
    assert future.cancelled()


async def test_unfinished_futures_end_with_the_pool(anyio_backend: object) -> None:
    async with Pool(1, plugins=["functions"], memory_limit="256MiB") as pool:
        executor = pool.as_executor()
        future = executor.submit(jobs.hang)
        await anyio.lowlevel.checkpoint()
    with pytest.raises(PoolClosed):
        future.result(5)
    with pytest.raises(PoolClosed):
        executor.submit(jobs.echo_number, 1).result(5)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncio_runs_functions_in_it(anyio_backend: object, pool: Pool) -> None:
    loop, executor = asyncio.get_running_loop(), pool.as_executor()
    assert await loop.run_in_executor(executor, jobs.echo_number, 3) == 3
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.run_in_executor(executor, jobs.hang), 0.3)
    assert await loop.run_in_executor(executor, jobs.echo_number, 4) == 4
