"""Limits the time that short functions, such as header readers, take in one iteration of the event loop.

A hundred tasks that are submitted together all begin in one iteration of the loop. Each reads a header for a fraction of a
millisecond, and together they would block the loop for a hundred times that. So their time is added up. When the budget is
spent, later functions are queued. A background task calls as many of them as the budget allows, lets the loop run one
iteration, and goes on. While budget is left and no function is queued, a function is called at once, without any suspension.

The budget is refilled only after it was spent, in the next iteration. So one iteration may use the rest of one budget, all of
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
from .futures import OneShotEvent

__all__ = ["LoopBudget"]

BUDGET_S = 0.001  # seconds for each iteration: the limit of design law 1
_FOLLOWING_S = 0.0001  # seconds of loop time after each function, for its task's events and the copy of a small source

Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")


class _Job:
    """A queued function call, and then its outcome."""

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.ended = OneShotEvent(loop)
        self._function = function
        self._arguments = arguments
        self._value: Any = None
        self._error: BaseException | None = PoolClosed("the pool was closed while a header waited to be read")

    def run(self) -> None:
        try:
            self._value, self._error = self._function(*self._arguments), None
        except BaseException as error:  # it is raised in the task that called `LoopBudget.call`
            self._error = error
        self.ended.set()

    def pop_outcome(self) -> Any:
        """Return or raise the outcome of the function, and forget it."""
        error, self._error = self._error, None
        if error is None:
            return self._value
        try:
            raise error
        finally:
            del error  # because its traceback refers to this frame: a reference cycle otherwise


class LoopBudget:
    """Calls functions on the event loop, first come, first served, within a time budget for each iteration."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._limit_s = inf  # infinite unless `refill` is running
        self._spent_s = 0.0
        self._exhausted = OneShotEvent(loop)
        self._waiting: OrderedDict[_Job, None] = OrderedDict()

    async def call(self, function: Callable[[Unpack[Arguments]], Value], *arguments: *Arguments) -> Value:
        """Call a function that does not block: now if budget is left, else after the functions queued before it.

        Raises:
            PoolClosed: the pool was closed before the function was called.
            Exception: the error that the function raised.

        Cancelling the call while it waits removes the function from the queue.
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
        return job.pop_outcome()

    async def refill(self) -> None:
        """Refill the budget and call queued functions, until cancelled. Runs as a background task."""
        self._limit_s = BUDGET_S
        try:
            while True:
                await self._exhausted.wait()
                self._exhausted = OneShotEvent(self._loop)
                while self._spent_s >= self._limit_s:
                    await anyio.lowlevel.checkpoint()  # one loop iteration
                    self._spent_s = 0.0
                    self._run_waiting()
        finally:
            self._limit_s = inf
            for job in self._waiting:
                job.ended.set()

    def _run_waiting(self) -> None:
        while self._waiting and self._spent_s < self._limit_s:
            job, _ = self._waiting.popitem(last=False)
            started = perf_counter()
            job.run()
            self._charge(started)

    def _charge(self, started: float) -> None:
        self._spent_s += perf_counter() - started + _FOLLOWING_S
        if self._spent_s >= self._limit_s:
            self._exhausted.set()
