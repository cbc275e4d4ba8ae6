"""Tasks that need more shared memory than there is wait, and end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from offloop import Buffer, MemoryLimitExceeded, Pool
from offloop.testing import Answer, assert_nothing_left, scripted_pool
from offloop.testing.faults import FaultsPlugin, Noop

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

KIB, MIB = 1024, 1024 * 1024
SETTINGS: dict[str, Any] = {"plugins": [FaultsPlugin], "timeout": None}


async def chunks(nbytes: int) -> AsyncIterator[bytes]:
    for _ in range(nbytes // (64 * KIB)):
        yield bytes(64 * KIB)
        await anyio.lowlevel.checkpoint()


async def test_a_stream_may_fill_the_inbox(anyio_backend: object) -> None:
    async with scripted_pool([Answer(b"done")], memory_limit="16MiB", **SETTINGS) as pool:
        with anyio.fail_after(20):
            buffer = await pool.receive(chunks(12 * MIB))
            assert buffer.nbytes == 12 * MIB
            assert bytes(await pool.run(buffer, [Noop()])) == b"done"
        del buffer
    assert_nothing_left(pool)


async def test_a_stream_longer_than_the_inbox_is_an_error_with_both_numbers(anyio_backend: object) -> None:
    async with scripted_pool([], memory_limit="16MiB", **SETTINGS) as pool:
        with anyio.fail_after(20), pytest.raises(MemoryLimitExceeded) as refused:
            await pool.receive(chunks(13 * MIB))
        assert (refused.value.asked_bytes, refused.value.limit_bytes) == (12 * MIB + 64 * KIB, 12 * MIB)


async def test_streams_that_cannot_all_go_on_end_and_one_is_told_why(anyio_backend: object) -> None:
    outcomes: list[Buffer | MemoryLimitExceeded] = []

    async def receive(pool: Pool) -> None:
        try:
            outcomes.append(await pool.receive(chunks(5 * MIB)))
        except MemoryLimitExceeded as error:
            outcomes.append(error)

    async with scripted_pool([], memory_limit="16MiB", **SETTINGS) as pool:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as task_group:
                for _ in range(3):
                    task_group.start_soon(receive, pool)
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Buffer", "Buffer", "MemoryLimitExceeded"]
        errors = [str(outcome) for outcome in outcomes if isinstance(outcome, MemoryLimitExceeded)]
        assert "streams that are being received hold" in errors[0]
        outcomes.clear()
    assert_nothing_left(pool)


async def test_streams_that_wait_for_each_other_go_on_when_their_buffers_are_used(anyio_backend: object) -> None:
    async def receive_and_run(pool: Pool) -> None:
        buffer = await pool.receive(chunks(3 * MIB), expected_bytes=3 * MIB)
        assert bytes(await pool.run(buffer, [Noop()])) == b"done"

    async with scripted_pool([Answer(b"done")] * 12, memory_limit="16MiB", **SETTINGS) as pool:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as task_group:
                for _ in range(12):
                    task_group.start_soon(receive_and_run, pool)
    assert_nothing_left(pool)


async def test_tasks_that_fit_alone_all_succeed_although_their_sources_fill_the_memory(anyio_backend: object) -> None:
    done: list[int] = []

    async def run(pool: Pool) -> None:
        done.append((await pool.run(bytearray(700 * KIB), [Noop()])).nbytes)

    async with scripted_pool(lambda _: Answer(bytes(1300 * KIB)), workers=2, memory_limit="4MiB", **SETTINGS) as pool:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as task_group:
                for _ in range(12):
                    task_group.start_soon(run, pool)
    assert done == [1300 * KIB] * 12
    assert_nothing_left(pool)


async def test_a_result_that_is_let_go_after_the_pool_was_closed_is_counted(anyio_backend: object) -> None:
    async with scripted_pool([Answer(bytes(MIB))], memory_limit="16MiB", **SETTINGS) as pool:
        result = await pool.run(b"", [Noop()])
    assert pool.statistics().leases["caller"] == 1
    del result
    assert_nothing_left(pool)
