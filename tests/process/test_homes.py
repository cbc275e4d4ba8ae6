"""A pool belongs to one thread and one loop. Calls from others are refused; several pools are independent."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import unittest
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.to_thread
import outcome
import pytest
import trio

from offloop import InvalidTask, Pool, PoolClosed, PoolMisused
from offloop.testing.faults import Echo, FaultsPlugin, Inspect, Noop, Wait

pytestmark = pytest.mark.every_loop

ASYNCIO = [pytest.param(("asyncio", {"use_uvloop": uvloop}), id="uvloop" if uvloop else "asyncio") for uvloop in (False, True)]

CALLS: dict[str, Callable[[Pool], Awaitable[object]]] = {
    "run": lambda pool: pool.run(b"abc", [Echo()]),
    "probe": lambda pool: pool.probe(b"abc"),
    "receive": lambda pool: pool.receive(chunks()),
    "resize": lambda pool: pool.resize(1),
    "drain": lambda pool: pool.drain(),
    "leave": lambda pool: pool.__aexit__(None, None, None),
}


@pytest.fixture
def pool(pool_of_one: Pool) -> Pool:
    return pool_of_one


async def chunks() -> AsyncIterator[bytes]:
    yield b"abc"


async def buffer(pool: Pool) -> object:
    return pool.buffer(10)


@pytest.mark.anyio
async def test_any_call_from_another_thread_is_refused(pool: Pool) -> None:
    def in_thread(call: Callable[[Pool], Awaitable[object]]) -> PoolMisused:
        with pytest.raises(PoolMisused, match=r"belongs to thread 'MainThread'.*from_thread\.run") as caught:
            asyncio.run(await_(call(pool)))
        return caught.value

    for call in (*CALLS.values(), buffer):
        submitted = pool.statistics().submitted
        error = await anyio.to_thread.run_sync(in_thread, call)
        assert error.what == "thread"
        assert isinstance(error, RuntimeError)
        assert pool.statistics().submitted == submitted
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


async def await_(awaitable: Awaitable[object]) -> object:
    return await awaitable


@pytest.mark.anyio
async def test_the_advice_of_the_error_works(pool: Pool) -> None:
    result = await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(pool.run, b"abc", [Echo()]))
    assert bytes(result) == b"abc"


@pytest.mark.anyio
async def test_buffers_are_filled_and_views_released_in_any_thread(pool: Pool) -> None:
    buffer = await pool.buffer(3_000_000).ready()

    def fill() -> None:
        buffer.view[:] = b"abc" * 1_000_000

    await anyio.to_thread.run_sync(fill)
    held = [await pool.run(buffer, [Echo()])]
    assert pool.statistics().leases["caller"] == 1

    def drop() -> None:
        assert bytes(held.pop().data[:3]) == b"abc"

    await anyio.to_thread.run_sync(drop)
    gc.collect()
    assert pool.statistics().leases["caller"] == 0


@pytest.mark.anyio
async def test_statistics_are_for_every_thread(pool: Pool) -> None:
    await pool.run(b"", [Echo()])
    assert (await anyio.to_thread.run_sync(pool.statistics)).completed == 1


@pytest.mark.anyio
async def test_statistics_can_be_asked_for_in_a_thread_while_tenants_come_and_go(
    pool: Pool,
) -> None:
    def look(times: int) -> None:
        for _ in range(times):
            numbers = pool.statistics()
            assert numbers.waiting >= 0

    async def ask() -> None:
        await anyio.to_thread.run_sync(look, 2_000)
        tasks.cancel_scope.cancel()

    async def come_and_go(name: str) -> None:
        while True:
            await pool.run(b"", [Noop()], tenant=name)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # so that threads meet in the middle of things
    try:
        async with anyio.create_task_group() as tasks:
            for n in range(50):
                tasks.start_soon(come_and_go, f"tenant {n}")
            tasks.start_soon(ask)
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.anyio
async def test_a_buffer_that_is_not_ready_is_awaited_in_the_pools_thread_only(pool: Pool) -> None:
    held = [await pool.buffer(60_000_000).ready() for _ in range(3)]
    waiting = pool.buffer(60_000_000)

    def look() -> None:
        with pytest.raises(PoolMisused):
            _ = waiting.view

    await anyio.to_thread.run_sync(look)
    held.clear()
    assert (await waiting.ready()).view.nbytes == 60_000_000


def test_a_call_from_another_loop_of_the_same_thread_is_refused() -> None:
    one, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    opened: asyncio.Future[Pool] = one.create_future()
    enough = asyncio.Event()

    async def live() -> None:
        async with Pool(1, plugins=[FaultsPlugin]) as pool:
            opened.set_result(pool)
            await enough.wait()

    try:
        life = one.create_task(live())
        pool = one.run_until_complete(opened)
        for call in CALLS.values():
            with pytest.raises(PoolMisused, match=r"belongs to event loop <.*in the loop that entered it"):
                other.run_until_complete(await_(call(pool)))
        with pytest.raises(PoolMisused, match="comes from event loop no asyncio loop"):
            pool.buffer(10)
        assert bytes(one.run_until_complete(pool.run(b"abc", [Echo()]))) == b"abc"
        enough.set()
        one.run_until_complete(life)
    finally:
        one.close()
        other.close()


def test_pools_in_two_threads_with_two_loops_are_independent() -> None:
    both_are_open = threading.Barrier(2, timeout=20)

    async def live(data: bytes) -> tuple[set[int], bytes]:
        async with Pool(1, plugins=[FaultsPlugin]) as pool:
            await anyio.to_thread.run_sync(both_are_open.wait)
            pids = {(await pool.run(b"", [Inspect()])).info.pid for _ in range(5)}
            result = await pool.run(data * 500_000, [Echo()])
            await anyio.to_thread.run_sync(both_are_open.wait)
            return pids, bytes(result)

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(anyio.run, live, b"one")
        other = threads.submit(anyio.run, live, b"two", backend="trio")
        (pids, data), (other_pids, other_data) = one.result(30), other.result(30)
    assert (data, other_data) == (b"one" * 500_000, b"two" * 500_000)
    assert len(pids | other_pids) == 2


@pytest.mark.anyio
async def test_a_result_of_another_threads_pool_is_a_source_and_a_buffer_is_not(pool: Pool) -> None:
    async def live() -> None:
        async with Pool(1, plugins=[FaultsPlugin]) as other:
            result = await other.run(b"abc" * 400_000, [Echo()])
            copied = await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(pool.run, result, [Echo()], token=home))
            assert bytes(copied) == b"abc" * 400_000
            mine = await other.buffer(10).ready()
            mine.view[:] = b"0123456789"
            with pytest.raises(InvalidTask, match="belongs to another pool"):
                await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(pool.run, mine, [Echo()], token=home))
            assert bytes(await other.run(mine, [Echo()])) == b"0123456789"

    home = anyio.lowlevel.current_token()
    await anyio.to_thread.run_sync(lambda: anyio.run(live))


@pytest.mark.parametrize("anyio_backend", ASYNCIO)
@pytest.mark.anyio
async def test_a_pool_is_entered_used_and_left_in_three_tasks(anyio_backend: object) -> None:
    """As a notebook's cells are, a REPL's lines, pytest-asyncio's fixtures, and IsolatedAsyncioTestCase on Python 3.11."""
    pool = Pool(1, plugins=[FaultsPlugin])
    await asyncio.create_task(pool.__aenter__())
    pid = (await asyncio.create_task(pool.run(b"", [Inspect()]))).info.pid
    await asyncio.create_task(pool.__aexit__(None, None, None))
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(PoolClosed):
        await pool.run(b"", [Noop()])


@pytest.mark.parametrize("anyio_backend", ["trio"])
@pytest.mark.anyio
async def test_on_trio_a_pool_is_left_in_another_task_too(anyio_backend: object) -> None:
    pool = Pool(1, plugins=[FaultsPlugin])
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(pool.__aenter__)
    assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(pool.__aexit__, None, None, None)
    with pytest.raises(PoolClosed):
        await pool.run(b"", [Noop()])


@pytest.mark.anyio
async def test_a_scope_around_the_entering_only_is_no_scope_around_the_pool(anyio_backend: object) -> None:
    pool = Pool(1, plugins=[FaultsPlugin])
    with anyio.move_on_after(60) as scope:
        await pool.__aenter__()
    scope.cancel()
    assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
    await pool.__aexit__(None, None, None)


@pytest.mark.anyio
async def test_a_pool_may_be_left_by_several_tasks_at_once_and_again_later(anyio_backend: object) -> None:
    pool = await Pool(1, plugins=[FaultsPlugin]).__aenter__()
    async with anyio.create_task_group() as task_group:
        for _ in range(3):
            task_group.start_soon(pool.__aexit__, None, None, None)
    await pool.__aexit__(None, None, None)
    assert pool.statistics().workers == {}


class ServiceTest(unittest.IsolatedAsyncioTestCase):
    """What a user's test case may do; run by the test below."""

    async def asyncSetUp(self) -> None:
        self.pool = await Pool(1, plugins=[FaultsPlugin]).__aenter__()

    async def asyncTearDown(self) -> None:
        await self.pool.__aexit__(None, None, None)

    async def runTest(self) -> None:
        assert bytes(await self.pool.run(b"abc", [Echo()])) == b"abc"


def test_a_test_case_of_unittest_enters_and_leaves_a_pool_in_its_set_up_and_tear_down() -> None:
    result = ServiceTest().run()
    assert result is not None
    assert result.wasSuccessful(), result.errors + result.failures


def test_trio_runs_a_pool_as_a_guest_of_asyncio() -> None:
    """Both loops run in one thread then, and the pool is trio's."""

    async def live() -> bytes:
        async with Pool(1, plugins=[FaultsPlugin]) as pool:
            buffer = await pool.buffer(3_000_000).ready()
            buffer.view[:3] = b"abc"
            with pytest.raises(TimeoutError):
                await pool.run(b"", [Wait(60)], timeout=0.05)
            return bytes((await pool.run(buffer, [Echo()])).data[:3])

    async def host() -> outcome.Outcome[bytes]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[outcome.Outcome[bytes]] = loop.create_future()
        trio.lowlevel.start_guest_run(
            live,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        async with Pool(1, plugins=[FaultsPlugin]) as pool:  # beside it, one of the host's own
            assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
            return await done

    assert asyncio.run(host()).unwrap() == b"abc"
