"""The task that a processor sees keeps the same promises inline (`offloop.testing`) and in a real worker."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Sequence

import anyio
import pytest

from offloop import Encoded, Operation, Payload, Pool, TaskCancelled, TaskFailed, TaskTimeout
from offloop.testing import InlineTask, run_inline
from offloop.testing.faults import Allocate, Echo, Raise, Wait
from offloop.testing.faults_processor import FaultsProcessor

pytestmark = pytest.mark.anyio

Runner = Callable[[bytes, Sequence[Operation]], Awaitable[bytes]]


def data_of(payload: Payload) -> bytes:
    return bytes(payload.data)


@pytest.fixture
def pool(pool_of_one: Pool) -> Pool:
    return pool_of_one


@pytest.fixture(params=["inline", "worker"])
def run(request: pytest.FixtureRequest) -> Runner:
    async def inline(data: bytes, operations: Sequence[Operation]) -> bytes:
        return data_of(run_inline(FaultsProcessor(), Encoded(memoryview(data)), operations))

    if request.param == "inline":
        return inline
    pool: Pool = request.getfixturevalue("pool")  # for these alone: starting it takes longer than the tests

    async def in_worker(data: bytes, operations: Sequence[Operation]) -> bytes:
        return bytes(await pool.run(data, operations))

    return in_worker


async def test_allocated_memory_is_as_long_as_asked(run: Runner) -> None:
    for nbytes in (0, 1, 300_000, 2_000_000):
        assert await run(b"", [Allocate(nbytes)]) == b"\x01" * nbytes


async def test_output_grows_as_it_is_written(run: Runner) -> None:
    for chunk in (1000, 65_536, 1_000_000):
        assert await run(b"", [Allocate(700_001, chunk)]) == b"\x01" * 700_001, chunk


async def test_operations_are_applied_in_order_to_what_the_one_before_made(run: Runner) -> None:
    assert await run(b"abc", [Echo(), Echo()]) == b"abc"
    assert await run(b"abc", [Echo(), Allocate(2)]) == b"\x01\x01"


async def test_a_failure_of_the_processor_keeps_its_code(run: Runner) -> None:
    with pytest.raises(TaskFailed) as caught:
        await run(b"", [Raise("task_failed")])
    assert caught.value.code == "refused"


async def test_a_cancelled_task_is_told_through_its_callback_and_stops_at_a_checkpoint(pool: Pool) -> None:
    with pytest.raises(TaskTimeout) as caught:
        await pool.run(b"", [Wait(60)], timeout=0.05)
    assert caught.value.obeyed
    task = InlineTask()
    threading.Timer(0.05, task.cancel).start()
    with pytest.raises(TaskCancelled):
        await anyio.to_thread.run_sync(FaultsProcessor().run, Encoded(b""), [Wait(60)], task)
    with pytest.raises(TaskCancelled):
        task.allocate(1)
