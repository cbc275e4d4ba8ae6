"""A fault at every point of a worker: one outcome of the right type, and the pool and other tasks are not affected."""

from __future__ import annotations

import logging
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from offloop import InvalidTask, Operation, Pool, TaskTimeout, WorkerDied
from offloop.testing import Fault, FaultyWorkers, Order, Point, pool_with
from offloop.testing.faults import Echo, FaultsPlugin, HoldOn, Obey

pytestmark = pytest.mark.anyio

UVLOOP = pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")
IN_ITS_TASK = {
    Point.ACCEPTED,
    Point.MID_INPUT,
    Point.WAITING_FOR_GRANT,
    Point.WHILE_GRANTED,
    Point.MID_PIXELS,
    Point.BEFORE_REPLY,
    Point.REPLY_BYTE_1,
    Point.REPLY_HALF,
    Point.REPLY_LAST,
}
POINTS = [point for point in Point if point is not Point.STARTING]
ALWAYS = ["exit 42", "SIGKILL", "close", "garbage"]  # at every point
SIGNALS = [
    "SIGSEGV",
    "SIGABRT",
    "SIGFPE",
    "SIGBUS",
    "SIGTERM",
]
LASTING = ["stop", "hang", "spin"]
TIMEOUT_S, GRACE_S = 0.15, 0.05


class Scene:
    """A pool of two workers. A task keeps one of them busy all the time, so every order goes to the other."""

    def __init__(self, pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
        self.pool = pool
        self._caplog = caplog

    async def obey(self, order: Order, rest: bytes = b"") -> None:
        """Runs the order's task, which must succeed."""
        source = f"{order}\n".encode() + rest
        assert bytes(await self.pool.run(source, [Obey()], timeout=None)) == source

    async def meet(self, order: Order, source: bytes, operation: Operation) -> None:
        """Runs a task that must have the fault's outcome."""
        starts = self.pool.statistics().worker_starts
        if order.fault in (Fault.STOP, Fault.HANG, Fault.SPIN):
            with pytest.raises(TaskTimeout) as timeout:
                await self.pool.run(source, [operation], timeout=TIMEOUT_S)
            assert not timeout.value.obeyed
        else:
            with pytest.raises(WorkerDied) as died:
                await self.pool.run(source, [operation], timeout=None)
            assert end_of(died.value) == expected_end(order)
            assert f"offloop.testing: {order}" in died.value.stderr_tail
        assert self.pool.statistics().worker_starts == starts + 1

    async def works(self) -> None:
        """Checks that the next task succeeds."""
        with anyio.fail_after(20):
            assert bytes(await self.pool.run(b"abc", [Echo()], timeout=None)) == b"abc"

    async def replaced(self, starts: int) -> None:
        with anyio.fail_after(20):
            while self.pool.statistics().worker_starts == starts:
                await anyio.sleep(0.002)

    async def reached(self, order: Order) -> None:
        """Waits until the worker has reached the point."""
        with anyio.fail_after(20):
            while f"offloop.testing: {order}" not in self._caplog.text:
                await anyio.sleep(0.002)


Stage = Callable[[], AbstractAsyncContextManager[Scene]]


@pytest.fixture
def scene(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> Stage:
    @asynccontextmanager
    async def scene() -> AsyncGenerator[Scene]:
        caplog.set_level(logging.INFO, "offloop.worker")
        plugins = [FaultsPlugin]
        settings: dict[str, Any] = {"quarantine_after": None, "restart_intensity": 99}  # because many orders share the pool
        pool = pool_with(FaultyWorkers(), 2, plugins=plugins, memory_limit="64MiB", grace=GRACE_S, sandbox="off", **settings)
        async with pool, anyio.create_task_group() as tasks:
            tasks.start_soon(keep_worker_busy, pool, tmp_path / "over")
            await anyio.wait_all_tasks_blocked()
            yield Scene(pool, caplog)
            statistics = pool.statistics()
            assert (statistics.running, statistics.waiting) == (1, 0), "only the task that keeps a worker busy"
            (tmp_path / "over").touch()
        statistics = pool.statistics()
        ended = statistics.completed + statistics.timed_out + statistics.worker_died
        assert statistics.submitted == ended
        assert sum(statistics.leases.values()) == 0

    return scene


async def keep_worker_busy(pool: Pool, over: Path) -> None:
    assert bytes(await pool.run(b"unharmed", [HoldOn(str(over)), Echo()], timeout=None)) == b"unharmed"


def end_of(died: WorkerDied) -> int | signal.Signals | str | None:
    if died.reason is not None:
        return died.reason.partition(":")[0]
    return died.exit_code if died.signal is None else signal.Signals(died.signal)


def expected_end(order: Order) -> int | signal.Signals | str | None:
    match order.fault:
        case Fault.EXIT:
            return order.number
        case Fault.SIGNAL:
            return signal.Signals(order.number or 0)
        case Fault.GARBAGE:
            return "it broke the protocol"
        case _:
            return signal.SIGKILL  # the supervisor's


async def carry_out(scene: Scene, order: Order) -> None:
    """Runs an order, and checks all of its effects."""
    lasting = order.fault in (Fault.STOP, Fault.HANG, Fault.SPIN)
    starts = scene.pool.statistics().worker_starts
    if order.point in IN_ITS_TASK:
        await scene.meet(order, f"{order}\n".encode() + bytes(100_000), Obey())
    elif order.point is Point.BEFORE_ACCEPT:
        await scene.obey(order)
        if lasting or order.fault is Fault.GARBAGE:
            await scene.meet(order, b"abc", Echo())
        else:
            await scene.works()  # the task had not begun, so another worker ran it
            assert scene.pool.statistics().worker_starts == starts + 1
    elif lasting:
        await scene.obey(order)
        await scene.reached(order)
        await scene.meet(order, b"abc", Echo())
    elif order.point is Point.AFTER_REPLY and order.fault is Fault.GARBAGE:
        with pytest.raises(WorkerDied) as died:  # an answer in one read with garbage does not count
            await scene.obey(order)
            await scene.replaced(starts)
            raise WorkerDied(None, reason="it broke the protocol: the garbage came in a second read")
        assert end_of(died.value) == "it broke the protocol"
    else:
        await scene.obey(order, bytes(100_000))
        if order.point is Point.IDLE:
            await scene.replaced(starts)
    await scene.works()


@pytest.mark.parametrize("anyio_backend", [UVLOOP])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.value)
async def test_a_fault_at_that_point_costs_only_its_task(anyio_backend: object, scene: Stage, point: Point) -> None:
    index = POINTS.index(point)
    async with scene() as stage:
        for fault in (
            *ALWAYS,
            *SIGNALS,
            LASTING[index % len(LASTING)],
        ):  # one of them, because each takes a time-out
            await carry_out(stage, Order.parse(f"{fault} at {point.value}"))


@pytest.mark.every_loop
@pytest.mark.parametrize(
    "order",
    [
        "exit 42 at mid-pixels",
        "SIGKILL at reply byte 1",
        "SIGSEGV at before-accept",
        "close at idle",
        "stop at accepted",
        "hang at reply-last",
    ],
)
async def test_orders_are_carried_out_on_every_loop(anyio_backend: object, scene: Stage, order: str) -> None:
    async with scene() as stage:
        await carry_out(stage, Order.parse(order))


async def test_a_task_whose_two_workers_died_before_they_began_it_is_not_given_to_a_third(anyio_backend: object) -> None:
    order = Order.parse("exit 42 at before-accept")
    async with pool_with(FaultyWorkers(), 2, plugins=[FaultsPlugin]) as pool:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):  # at the same time, so that each worker gets an order
                tasks.start_soon(pool.run, str(order).encode(), [Obey()])
        with pytest.raises(WorkerDied) as died:
            await pool.run(b"abc", [Echo()])
        assert died.value.exit_code == 42
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"


async def test_an_ordinary_worker_refuses_invalid_orders_and_orders_for_points_that_it_has_not(pool_of_one: Pool) -> None:
    pool = pool_of_one
    with pytest.raises(InvalidTask, match=r"no fault 'explode'.*exit CODE.*mid-pixels"):
        await pool.run(b"explode at idle", [Obey()])
    with pytest.raises(InvalidTask, match="FaultyStarts"):
        await pool.run(b"exit 1 at starting", [Obey()])
    for order in (b"exit 1 at idle", b"SIGKILL at reply byte 1", b"close at accepted", b"garbage at mid-pixels"):
        with pytest.raises(InvalidTask, match=r"this worker has no such fault.*FaultyWorkers"):
            await pool.run(order, [Obey()])
    with pytest.raises(WorkerDied) as died:
        await pool.run(b"exit 42 at mid-pixels", [Obey()])
    assert died.value.exit_code == 42
