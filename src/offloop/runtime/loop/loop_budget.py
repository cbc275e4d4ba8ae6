"""Bounds how long short functions, such as header readers, hold the event loop in one of its iterations.

A hundred tasks that are submitted together all begin in one iteration of the loop. Each reads a header for a fraction of a
millisecond, and together they would stop the loop for a hundred times that. So their time is added up. Once it is spent, the
functions of later tasks wait in line, and a task of the pool calls them: as many as the budget allows, then the loop gets a
turn, then the next ones. A function that comes while there is budget left is called at once, without any suspension.

The budget is refilled only after it was spent, in the next iteration. So an iteration may see the rest of one budget and all of
the next one, and one function beyond that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Any, TypeVar, TypeVarTuple, Unpack

import anyio.lowlevel

from ...errors import PoolClosed
from .oneshot_event import OneShotEvent

__all__ = ["LoopBudget"]

BUDGET_S = 0.001  # what the first law allows
_FOLLOWING_S = 0.0001  # of the loop's time after each function: its task's events, and the copy of a small source

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


class _Job:
    """A function that waits for its call, and then its outcome."""

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.ended = OneShotEvent(loop)
        self._function = function
        self._arguments = arguments
        self._value: Any = None
        self._error: BaseException | None = PoolClosed("the pool was closed while a header waited to be read")

    def carry_out(self) -> None:
        try:
            self._value, self._error = self._function(*self._arguments), None
        except BaseException as error:  # its caller's, and not the task's that carries it out
            self._error = error
        self.ended.set()

    def outcome(self) -> Any:
        """What the function returned; raises what it raised. To be asked once."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame


class LoopBudget:
    """Calls functions on the event loop, within a budget of time for each iteration, in the order in which they come."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._limit_s = inf  # as long as `refill` does not run
        self._spent_s = 0.0
        self._spent_out = OneShotEvent(loop)
        self._waiting: OrderedDict[_Job, None] = OrderedDict()

    async def call(self, function: Callable[[Unpack[Arguments]], Value], *arguments: *Arguments) -> Value:
        """Call a function that does not block: now, if there is budget left, else when it is its turn.

        Raises:
            PoolClosed: the pool was closed before its turn came.
            Exception: what the function raised.

        Cancelling it while it waits takes it out of the line.
        """
        if self._spent_s < self._limit_s and not self._waiting:
            started = perf_counter()
            try:
                return function(*arguments)
            finally:
                self._charge(started)
        job = _Job(function, arguments, self._loop)
        self._waiting[job] = None
        try:
            await job.ended.wait()
        finally:
            self._waiting.pop(job, None)
        return job.outcome()

    async def refill(self) -> None:
        """Runs until it is cancelled, as a task of the pool."""
        self._limit_s = BUDGET_S
        try:
            while True:
                await self._spent_out.wait()
                self._spent_out = OneShotEvent(self._loop)
                while self._spent_s >= self._limit_s:
                    await anyio.lowlevel.checkpoint()  # the loop's turn
                    self._spent_s = 0.0
                    self._carry_out_some()
        finally:
            self._limit_s = inf
            for job in self._waiting:
                job.ended.set()

    def _carry_out_some(self) -> None:
        while self._waiting and self._spent_s < self._limit_s:
            job, _ = self._waiting.popitem(last=False)
            started = perf_counter()
            job.carry_out()
            self._charge(started)

    def _charge(self, started: float) -> None:
        self._spent_s += perf_counter() - started + _FOLLOWING_S
        if self._spent_s >= self._limit_s:
            self._spent_out.set()
