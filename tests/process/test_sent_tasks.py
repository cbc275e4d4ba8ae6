"""Short tasks that lie at a busy worker: each has its own outcome, also if the task before them dies or does not end."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
from sent_work import echo_bytes, short

from offloop import Pool, TaskTimeout, WorkerDied
from offloop.runtime.memory.segments import find_status

pytestmark = pytest.mark.anyio

MANY = 200
BEHIND = [f"behind {number}" for number in range(5)]


@pytest.fixture
async def pool(offloop_pool_factory: Callable[..., Awaitable[Pool]]) -> Pool:
    """One worker, which knows that the function is short."""
    pool = await offloop_pool_factory(1, plugins=["functions"], memory_limit="512MiB", grace=0.05)
    for number in range(5):
        await pool.call(short, f"{number}")
    return pool


async def outcomes_of(pool: Pool, orders: list[str], timeout: float | None = 60) -> dict[str, str | Exception]:
    """Calls the function with each order at once. Returns results and errors by order."""
    found: dict[str, str | Exception] = {}

    async def call(order: str) -> None:
        try:
            found[order] = await pool.call(short, order, timeout=timeout)
        except Exception as error:
            found[order] = error

    async with anyio.create_task_group() as group:
        for order in orders:
            group.start_soon(call, order)
    return found


def pid_of_begun_task(pool: Pool) -> int | None:
    """Returns the process that has begun a task, by its status page; None: no process has."""
    supervisor = pool._supervisor
    assert supervisor is not None
    for slot in supervisor.core.worker_table:
        if slot.task is not None and slot.outbox_id is not None:
            status = find_status(supervisor.segments, slot.outbox_id)
            if status is not None and status.task_id == slot.task.task_id:
                return slot.pid
    return None


@pytest.mark.every_loop
async def test_many_short_calls_at_once_have_their_own_results(anyio_backend: object, pool: Pool) -> None:
    orders = [f"{number}" for number in range(MANY)]
    assert await outcomes_of(pool, orders) == {order: order for order in orders}
    s = pool.statistics()
    assert (s.completed, s.retried, s.waiting, s.running) == (MANY + 5, 0, 0, 0)


async def reversed_by(pool: Pool, contents: list[bytes]) -> dict[bytes, bytes | Exception]:
    """Calls the function with each content at once. Returns results and errors by content."""
    found: dict[bytes, bytes | Exception] = {}

    async def call(content: bytes) -> None:
        try:
            found[content] = bytes(await pool.call(echo_bytes, content))
        except WorkerDied as error:
            found[content] = error

    async with anyio.create_task_group() as group:
        for content in contents:
            group.start_soon(call, content)
    return found


@pytest.mark.parametrize("private", [True, False])
async def test_short_calls_with_sources_in_shared_memory_have_their_own_results(
    anyio_backend: object, offloop_pool_factory: Callable[..., Awaitable[Pool]], private: bool
) -> None:
    pool = await offloop_pool_factory(2, plugins=["functions"], memory_limit="512MiB", private_sources=private)
    contents = [number.to_bytes(2, "big") * (3000 + number) for number in range(MANY)]
    for _ in range(5):  # the first ones show that the function is short
        assert await reversed_by(pool, contents) == {content: content[::-1] for content in contents}


async def test_a_death_costs_one_task_with_a_source_and_those_behind_it_have_their_results(
    anyio_backend: object, pool: Pool
) -> None:
    contents = [bytes([number]) * 5000 for number in range(5)]
    for _ in range(5):
        await reversed_by(pool, contents)
    died = b"die" + bytes(5000)
    found = await reversed_by(pool, [*contents[:2], died, *contents[2:]])
    assert isinstance(found.pop(died), WorkerDied)
    assert found == {content: content[::-1] for content in contents}


async def test_a_death_costs_one_task_and_those_behind_it_go_to_the_next_worker(anyio_backend: object, pool: Pool) -> None:
    found = await outcomes_of(pool, ["die", *BEHIND])
    assert isinstance(found.pop("die"), WorkerDied)
    assert found == {order: order for order in BEHIND}


async def test_a_killed_worker_costs_one_task(anyio_backend: object, pool: Pool) -> None:
    found: dict[str, str | Exception] = {}
    async with anyio.create_task_group() as group:

        async def call(*orders: str) -> None:
            found.update(await outcomes_of(pool, list(orders), timeout=60))

        group.start_soon(call, "sleep")
        while not pool.statistics().running:  # because trio starts the tasks of a group in any order
            await anyio.lowlevel.checkpoint()
        group.start_soon(call, *BEHIND)
        pid = None
        while pid is None:
            await anyio.lowlevel.checkpoint()
            pid = pid_of_begun_task(pool)
        os.kill(pid, signal.SIGKILL)
    assert isinstance(found.pop("sleep"), WorkerDied)
    assert found == {order: order for order in BEHIND}


@pytest.mark.parametrize("stuck", ["sleep", "spin"])
async def test_a_stuck_task_is_killed_at_its_limit_and_those_behind_it_go_on(
    anyio_backend: object, pool: Pool, stuck: str
) -> None:
    found = await outcomes_of(pool, [stuck, *BEHIND], timeout=1.0)
    assert isinstance(found.pop(stuck), TaskTimeout)
    assert found == {order: order for order in BEHIND}


async def test_tasks_behind_a_stuck_one_go_to_another_worker_while_it_is_stuck(
    anyio_backend: object, offloop_pool_factory: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await offloop_pool_factory(2, plugins=["functions"], memory_limit="512MiB", grace=0.05)
    for number in range(5):
        await pool.call(short, f"{number}")
    ended = anyio.Event()

    async def be_stuck() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await pool.call(short, "spin", timeout=None)
        ended.set()

    scopes: list[anyio.CancelScope] = []
    found: dict[str, str | Exception] = {}
    async with anyio.create_task_group() as group:
        group.start_soon(be_stuck)
        await anyio.lowlevel.checkpoint()
        found = await outcomes_of(pool, BEHIND)
        assert not ended.is_set()
        scopes[0].cancel()
    assert found == {order: order for order in BEHIND}


@pytest.mark.every_loop
async def test_a_cancelled_task_behind_a_stuck_one_ends_at_once(anyio_backend: object, pool: Pool) -> None:
    scopes: dict[str, anyio.CancelScope] = {}
    ended: list[str] = []

    async def call(order: str) -> None:
        with anyio.CancelScope() as scopes[order]:
            await pool.call(short, order, timeout=None)
        ended.append(order)

    async with anyio.create_task_group() as group:
        group.start_soon(call, "spin")
        while not pool.statistics().running:  # because trio starts the tasks of a group in any order
            await anyio.lowlevel.checkpoint()
        for order in ("behind 0", "behind 1"):
            group.start_soon(call, order)
        while not (len(scopes) == 3 and pool.statistics().running and pool.statistics().waiting):
            await anyio.lowlevel.checkpoint()
        scopes["behind 1"].cancel()
        while "behind 1" not in ended:
            await anyio.lowlevel.checkpoint()
        assert ended == ["behind 1"]
        scopes["spin"].cancel()
    assert sorted(ended) == ["behind 0", "behind 1", "spin"]


@pytest.mark.every_loop
async def test_closing_the_pool_ends_tasks_behind_a_stuck_one(anyio_backend: object) -> None:
    found: dict[str, str | Exception] = {}
    async with anyio.create_task_group() as group:
        async with Pool(1, plugins=["functions"], memory_limit="512MiB", grace=0.05) as pool:
            for number in range(5):
                await pool.call(short, f"{number}")

            async def call(*orders: str) -> None:
                found.update(await outcomes_of(pool, list(orders)))

            group.start_soon(call, "spin")
            while not pool.statistics().running:  # because trio starts the tasks of a group in any order
                await anyio.lowlevel.checkpoint()
            group.start_soon(call, *BEHIND)
            while not pool.statistics().waiting:
                await anyio.lowlevel.checkpoint()
    assert {type(error).__name__ for error in found.values()} == {"PoolClosed"}
