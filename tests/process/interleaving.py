"""Two callers of one pool whose events fall into one turn of the event loop, in a given order.

A program is a list of turns. The actions of a turn are done one after the other without an await, so every event that they
cause is decided on in that order; then the loop runs for some iterations. The workers are threads that follow a script, all
else is real. After the program both callers leave, and the pool must have kept its promises: no defect, one outcome for each
task, every block back, and it still works.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Literal, TypeAlias

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup

from offloop import Buffer, MemoryLimitExceeded, Pool, PoolClosed, QueueTimeout, Result, TaskTimeout
from offloop.testing import Answer, ScriptedTask, Stall, assert_books_balance, scripted_pool
from offloop.testing.faults import FaultsPlugin, Noop
from offloop.testing.steps import Step

__all__ = ["Action", "Program", "Turn", "play"]

KIB, MIB = 1024, 1024 * 1024
LIMITS = {"small": (1 * MIB, 480 * KIB), "large": (4 * MIB, 1800 * KIB)}  # memory_limit, and what each caller asks for
TIMEOUT_S = 0.01  # of timed runs
PATIENCE_S = 10.0  # for what takes milliseconds
EXPECTED = (PoolClosed, QueueTimeout, TaskTimeout, MemoryLimitExceeded)

Verb: TypeAlias = Literal[
    "buffer", "ready", "receive", "stall", "answer", "timed", "cancel", "release", "time out", "drain", "close"
]


class Action(msgspec.Struct, frozen=True):
    """What a caller does, or what happens to it."""

    caller: int
    verb: Verb


class Turn(msgspec.Struct, frozen=True):
    """Actions without an await between them, and what follows: so many iterations of the loop, or all that can happen."""

    actions: tuple[Action, ...]
    iterations: int | None = None  # None: until all tasks are blocked


class Program(msgspec.Struct, frozen=True):
    """What happens to one pool."""

    turns: tuple[Turn, ...]
    size: Literal["small", "large"] = "small"  # large: pages are reserved and sources copied in threads


class Caller:
    """At most one call at a time, and what came of the last one."""

    def __init__(self, pool: Pool, nbytes: int, task_group: TaskGroup) -> None:
        self._pool = pool
        self._nbytes = nbytes
        self._task_group = task_group
        self._scope: anyio.CancelScope | None = None
        self._deadline = 0.0
        self._kept: Buffer | Result | None = None

    def do(self, verb: Verb) -> None:
        match verb:
            case "cancel" if self._scope is not None:
                self._scope.cancel()
            case "release":
                self._kept = None
            case "time out":
                while monotonic() < self._deadline:
                    pass  # the loop is held up until the timer is due: it fires in the same turn as what follows
            case "buffer" if self._free:
                self._take_buffer()
            case "ready" if self._free:
                self._begin(self._ready_buffer)
            case "receive" if self._free:
                self._begin(self._receive)
            case "stall" | "answer" if self._free:
                self._begin(lambda: self._run(verb))
            case "timed" if self._free:
                self._deadline = monotonic() + TIMEOUT_S
                self._begin(lambda: self._run("stall", TIMEOUT_S))
            case _:
                pass  # this caller is in no state for it

    async def leave(self) -> None:
        """Cancel the call that is under way, and keep nothing of it."""
        self.do("cancel")
        while self._scope is not None:
            await anyio.lowlevel.checkpoint()
        self.do("release")

    @property
    def _free(self) -> bool:
        return self._scope is None and self._kept is None

    def _take_buffer(self) -> None:
        try:
            self._kept = self._pool.buffer(self._nbytes)
            self._kept.view[:1] = b"a"
        except (MemoryLimitExceeded, PoolClosed):
            pass  # it waits, and may be ready later; or there is none

    async def _ready_buffer(self) -> Buffer:
        return await self._pool.buffer(self._nbytes).ready()

    async def _receive(self) -> Buffer:
        return await self._pool.receive(self._chunks(), expected_bytes=self._nbytes)

    async def _chunks(self) -> AsyncIterator[bytes]:
        for _ in range(4):
            yield bytes(self._nbytes // 4)
            await anyio.lowlevel.checkpoint()

    async def _run(self, how: str, limit_s: float | None = None) -> Result:
        source = how[:1].encode() + bytes(self._nbytes - 1)
        return await self._pool.run(source, [Noop()], timeout=limit_s, queue_timeout=limit_s)

    def _begin(self, call: Callable[[], Any]) -> None:
        self._scope = anyio.CancelScope()
        self._task_group.start_soon(self._carry_out, call, self._scope)

    async def _carry_out(self, call: Callable[[], Any], scope: anyio.CancelScope) -> None:
        try:
            with scope:
                self._kept = await call()
        except EXPECTED:
            pass
        finally:
            self._scope = None


def _step(task: ScriptedTask) -> Step:
    return Stall() if task.source.startswith(b"s") else Answer(b"result" * 10)


async def play(program: Program) -> None:
    """Carry out a program, and look at what it left.

    Raises:
        AssertionError, OffloopError, TimeoutError: the pool broke a promise.
    """
    limit, nbytes = LIMITS[program.size]
    pool = scripted_pool(_step, plugins=[FaultsPlugin], memory_limit=limit, grace=PATIENCE_S, timeout=None)
    callers: list[Caller] = []
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as task_group, pool:
            callers += [Caller(pool, nbytes, task_group) for _ in range(2)]
            await _carry_out(program.turns, callers, pool, task_group)
    for caller in callers:
        caller.do("release")
    assert pool._supervisor is not None
    pool._supervisor.collect_returns()  # results that came while the pool was closed
    statistics = pool.statistics()
    assert_books_balance(statistics)
    assert not any(statistics.leases.values()), statistics.leases
    assert (statistics.memory_used_bytes, statistics.memory_reserved_bytes) == (0, 0)


async def _carry_out(turns: Sequence[Turn], callers: list[Caller], pool: Pool, task_group: TaskGroup) -> None:
    for turn in turns:
        for action in turn.actions:
            match action.verb:
                case "close":
                    return  # the pool is left in this same turn, with calls under way
                case "drain":
                    task_group.start_soon(pool.drain, 0)
                case verb:
                    callers[action.caller].do(verb)
        if turn.iterations is None:
            await anyio.wait_all_tasks_blocked()
        for _ in range(turn.iterations or 0):
            await anyio.lowlevel.checkpoint()
    for caller in callers:
        await caller.leave()
    with suppress(PoolClosed):  # it was drained
        await _assert_it_works(pool)


async def _assert_it_works(pool: Pool) -> None:
    assert bytes(await pool.run(b"a", [Noop()])) == b"result" * 10
    await anyio.wait_all_tasks_blocked()
    while (leases := pool.statistics().leases)["reservation"]:  # by a thread, which may take longer than the task
        await anyio.sleep(0.001)
    assert {holder for holder, count in leases.items() if count} <= {"preallocated"}, leases
