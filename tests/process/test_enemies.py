"""Hostile clients and rare accidents. Each of these once hung the pool, leaked, or cost more than one task."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread
import pytest

from offloop import InvalidTask, PluginError, Pool, PoolClosed, TaskFailed, TaskTimeout
from offloop.testing.faults import Allocate, CallBackBadly, Echo, FaultsPlugin, Hang, Inspect, LeaveChild, Noop, Say, Wait

pytestmark = pytest.mark.anyio


def is_alive(pid: int) -> bool:
    """Whether there is such a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_several_page_moves_planned_in_one_turn_are_all_carried_out(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="64MiB") as pool, anyio.create_task_group() as task_group:
        with anyio.fail_after(20):
            for nbytes in [200 * 1024] * 8 + [3_000_000, 100, 3_000_000]:
                task_group.start_soon(pool.run, bytes(nbytes), [Echo()])
            await anyio.wait_all_tasks_blocked()
            buffers = [pool.buffer(200 * 1024) for _ in range(8)]
            for buffer in buffers:
                await buffer.ready()


@pytest.mark.every_loop
async def test_a_pool_that_closes_while_sources_wait_for_a_thread_writes_to_nobodys_file(
    anyio_backend: object, tmp_path: Path
) -> None:
    refused = 0

    async def submit(pool: Pool) -> None:
        nonlocal refused
        try:
            await pool.run(bytes(1_000_000), [Noop()])
        except PoolClosed:
            refused += 1

    pool = Pool(1, plugins=[FaultsPlugin])
    victims: list[BinaryIO] = []
    async with anyio.create_task_group() as task_group:
        async with pool:
            for _ in range(40):
                task_group.start_soon(submit, pool)
            await anyio.lowlevel.checkpoint()
        victims = [(tmp_path / str(number)).open("wb") for number in range(20)]  # they take the numbers that the pool gave up
    for victim in victims:
        victim.close()
    assert [entry.stat().st_size for entry in tmp_path.iterdir()] == [0] * 20
    assert refused + pool.statistics().completed == 40


def test_a_pool_closes_however_often_its_task_is_cancelled() -> None:
    async def main() -> None:
        async def live() -> None:
            async with Pool(1, plugins=[FaultsPlugin], grace=0.2) as pool:
                await pool.run(b"", [Hang("hold_gil")])

        task = asyncio.create_task(live())
        while not task.done():
            await asyncio.sleep(0.02)
            task.cancel()
        assert task.cancelled()

    asyncio.run(asyncio.wait_for(main(), 20))


async def test_odd_entries_of_the_import_path_do_not_keep_workers_from_starting(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, os.fsdecode(b"/no-text-\xff")])
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


@pytest.mark.every_loop
async def test_callers_that_hold_all_common_threads_do_not_starve_the_pool(anyio_backend: object, tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_bytes(bytes(1_000_000))
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        limiter = anyio.to_thread.current_default_thread_limiter()

        def endpoint() -> int:
            return anyio.from_thread.run(pool.run, path, [Allocate(2_000_000)]).nbytes

        with anyio.fail_after(30):
            async with anyio.create_task_group() as task_group:
                for _ in range(int(limiter.total_tokens)):
                    task_group.start_soon(anyio.to_thread.run_sync, endpoint)
        assert pool.statistics().completed == limiter.total_tokens


async def test_text_that_is_no_text_is_a_failure_and_not_a_death(pool: Pool) -> None:
    with pytest.raises(TaskFailed, match=r"file-\\udcff"):
        await pool.run(b"", [Say("error")])
    with pytest.raises(PluginError, match="info of its result"):
        await pool.run(b"", [Say("nested info")])
    with pytest.raises(PluginError, match=r"info of its result takes 65,0\d\d bytes"):
        await pool.run(b"", [Say("long info")])
    with pytest.raises(PluginError, match="surrogates"):
        await pool.run(b"", [Say("surrogate info")])
    assert pool.statistics().worker_starts == 2


async def test_a_callback_that_raises_does_not_deafen_the_worker(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        worker = (await pool.run(b"", [Inspect()])).info.pid
        for operation in (CallBackBadly(), Wait(60)):
            with pytest.raises(TaskTimeout) as caught:
                await pool.run(b"", [operation], timeout=0.1)
            assert caught.value.obeyed
        assert (await pool.run(b"", [Inspect()])).info.pid == worker


async def test_operations_that_cannot_be_sent_are_the_callers_fault(pool: Pool, tmp_path: Path) -> None:
    from offloop.testing.faults import PrintText

    with pytest.raises(InvalidTask, match="take 2,000,0"):
        await pool.run(b"", [PrintText("x" * 2_000_000)])
    with pytest.raises(InvalidTask, match="cannot be sent"):
        await pool.run(b"", [PrintText("\udcff")])
    with pytest.raises(InvalidTask, match="NUL"):
        await pool.run(b"", [Noop()], to="a\0b")
    longest = tmp_path / ("n" * 255)
    await pool.run(b"abc", [Echo()], to=longest)
    assert longest.read_bytes() == b"abc"
    with pytest.raises(TaskFailed) as caught:
        await pool.run(b"abc", [Echo()], to=tmp_path / ("n" * 256))
    assert caught.value.code == "cannot_write"
    assert list(tmp_path.iterdir()) == [longest]


async def test_what_a_worker_started_itself_ends_with_it(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], sandbox="off") as pool:
        child = (await pool.run(b"", [LeaveChild()])).info.pid
        assert is_alive(child)
    with anyio.fail_after(5):
        while is_alive(child):
            await anyio.lowlevel.checkpoint()


async def test_a_closed_pools_buffers_say_so(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        buffer = await pool.buffer(10).ready()
    with pytest.raises(PoolClosed):
        _ = buffer.view


@pytest.mark.every_loop
async def test_five_thousand_at_once_all_have_their_outcome(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        async with anyio.create_task_group() as task_group:
            for _ in range(5000):
                task_group.start_soon(pool.run, b"abc", [Noop()])
        assert pool.statistics().completed == 5000


def test_a_run_that_asyncio_cancels_while_its_source_is_copied_keeps_its_block_until_the_copy_ends() -> None:
    async def main() -> None:
        mine, other = b"\xaa" * 24_000_000, b"\xbb" * 24_000_000
        async with Pool(1, plugins=[FaultsPlugin], memory_limit="64MiB") as pool:
            for turn in range(12):
                task = asyncio.create_task(pool.run(mine, [Noop()]))
                for _ in range(turn):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.sleep(0)
                task.cancel()  # once more, to go through every shield
                result = await pool.run(other, [Echo()])
                assert bytes(result) == other, "the bytes of no other task"
                del result
                await asyncio.wait([task])

    asyncio.run(asyncio.wait_for(main(), 50))


@pytest.mark.every_loop
async def test_memory_that_comes_back_from_another_thread_reaches_who_waits(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="8MiB") as pool:
        for _ in range(30):
            held = [await pool.run(bytes(2_500_000), [Echo()]) for _ in range(2)]
            with anyio.fail_after(10):
                async with anyio.create_task_group() as task_group:
                    task_group.start_soon(pool.run, bytes(3_500_000), [Noop()])
                    task_group.start_soon(anyio.to_thread.run_sync, held.clear)


@pytest.mark.every_loop
async def test_a_pool_of_little_memory_serves_thousands_without_stopping_the_loop(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="8MiB") as pool:
        with anyio.fail_after(50):
            async with anyio.create_task_group() as task_group:
                for _ in range(3000):
                    task_group.start_soon(pool.run, bytes(5000), [Noop()])
        assert pool.statistics().completed == 3000
