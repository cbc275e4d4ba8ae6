"""`LoopBudget`: calls short functions at once while budget is left, else in order, with loop iterations between."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from math import inf

import anyio
import anyio.lowlevel
import pytest

from offloop import Encoded, Pool
from offloop.errors import PoolClosed
from offloop.operation import Estimate, Header, Operation, Plugin
from offloop.processor import Payload, Task, WorkerContext
from offloop.runtime.loop import loop_budget
from offloop.runtime.loop.event_loop import find_asyncio_loop
from offloop.runtime.loop.loop_budget import BUDGET_S, LoopBudget

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]


class Clock:
    """A clock that stands still but for the functions that say how long they take."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop_budget, "perf_counter", clock)
    return clock


async def until_it_is_refilled(budget: LoopBudget) -> None:
    while budget._limit_s == inf:
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def refilled() -> AsyncGenerator[LoopBudget]:
    budget = LoopBudget(find_asyncio_loop())
    async with anyio.create_task_group() as task_group:
        task_group.start_soon(budget.refill)
        await until_it_is_refilled(budget)
        yield budget
        task_group.cancel_scope.cancel()


def called_at_once(budget: LoopBudget, function: Callable[[], object]) -> bool:
    """Whether a call returns without any suspension; if it suspends, it is given up."""
    call = budget.call(function)
    try:
        call.send(None)
    except StopIteration:
        return True
    call.close()
    return False


async def test_a_function_is_called_at_once_while_there_is_budget(anyio_backend: object, clock: Clock) -> None:
    async with refilled() as budget:
        assert called_at_once(budget, lambda: None)
        assert await budget.call(divmod, 7, 3) == (2, 1)
        clock.now += 1  # the time between two calls costs nothing
        assert called_at_once(budget, lambda: None)


def _most_in_a_turn(anyio_backend: tuple[str, object]) -> int:
    """Two budgets of two functions each, and one beyond. On trio, tasks of a turn run in any order: a count may be of two."""
    return 10 if anyio_backend[0] == "trio" else 5


async def test_a_burst_of_calls_keeps_its_order_and_the_loop_runs_after_each_budget(
    anyio_backend: tuple[str, object], clock: Clock
) -> None:
    turn, turns, order = 0, Counter[int](), list[int]()

    def read(number: int) -> None:
        clock.now += 0.4 * BUDGET_S
        turns[turn] += 1
        order.append(number)

    async def count_turns() -> None:
        nonlocal turn
        while len(order) < 100:
            await anyio.lowlevel.checkpoint()
            turn += 1

    async with refilled() as budget, anyio.create_task_group() as task_group:
        task_group.start_soon(count_turns)
        for number in range(100):
            task_group.start_soon(budget.call, read, number)
    assert max(turns.values()) <= _most_in_a_turn(anyio_backend)
    assert sorted(order) == list(range(100))
    assert anyio_backend[0] == "trio" or order == sorted(order)  # trio starts tasks in any order


async def test_a_call_that_is_cancelled_while_it_waits_leaves_the_queue(anyio_backend: object, clock: Clock) -> None:
    async with refilled() as budget:
        budget._spent_s = BUDGET_S  # without a notification, so that nothing is refilled
        with anyio.CancelScope() as scope:
            scope.cancel()
            await budget.call(pytest.fail, "it was called")
        assert not budget._waiting


@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_an_error_reaches_its_caller(anyio_backend: object, clock: Clock, error: type[BaseException]) -> None:
    def fail() -> None:
        clock.now += BUDGET_S
        raise error("as ordered")

    async with refilled() as budget:
        for _ in range(2):  # at once, and in its turn
            with pytest.raises(error, match="as ordered"):
                await budget.call(fail)
        assert await budget.call(len, "abc") == 3


async def test_calls_that_wait_when_the_pool_ends_are_told_so_and_later_ones_are_made_at_once(
    anyio_backend: object, clock: Clock
) -> None:
    refused: list[BaseException] = []

    async def wait(budget: LoopBudget) -> None:
        with pytest.raises(PoolClosed) as caught:
            await budget.call(len, "abc")
        refused.append(caught.value)

    budget = LoopBudget(find_asyncio_loop())
    async with anyio.create_task_group() as waiting:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(budget.refill)
            await until_it_is_refilled(budget)
            budget._spent_s = BUDGET_S  # without a notification, so that nothing is refilled
            waiting.start_soon(wait, budget)
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            task_group.cancel_scope.cancel()
    assert len(refused) == 1
    assert called_at_once(budget, lambda: None)


class Look(Operation, frozen=True):
    pass


class SlowQuickPlugin(Plugin):
    """Takes half of the budget for each header, by the budget's clock."""

    name = "slow_quick"
    operations = (Look,)
    processor = f"{__name__}:Nothing"
    quick = True
    clock: Clock
    reads: Counter[int]
    turn = 0

    def probe(self, data: memoryview) -> Header | None:
        cls = SlowQuickPlugin
        cls.clock.now += BUDGET_S / 2
        cls.reads[cls.turn] += 1
        return None

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
        return None


class Nothing:
    """The processor."""

    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        return Encoded(b"")


async def test_a_hundred_tasks_that_are_submitted_together_read_few_headers_in_one_iteration(
    anyio_backend: tuple[str, object], clock: Clock
) -> None:
    SlowQuickPlugin.clock, SlowQuickPlugin.reads, SlowQuickPlugin.turn = clock, Counter(), 0

    async def count_turns() -> None:
        while sum(SlowQuickPlugin.reads.values()) < 100:
            await anyio.lowlevel.checkpoint()
            SlowQuickPlugin.turn += 1

    async with Pool(1, plugins=[SlowQuickPlugin]) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(count_turns)
        for _ in range(100):
            task_group.start_soon(pool.run, b"abc", [Look()])
    assert max(SlowQuickPlugin.reads.values()) <= _most_in_a_turn(anyio_backend)
