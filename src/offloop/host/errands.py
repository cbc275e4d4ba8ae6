"""A pool's own tasks: started for whoever decides, shielded from whoever cancels, ended when the pool says so.

Three things of asyncio make this a room of its own. A callback of the loop is in no task, and anyio wants to be called in one.
A cancellation of the block around a pool reaches every task in it, just when timers are needed most. And asyncio's own
`Task.cancel` goes through anyio's shields, and would leave a thread behind that still writes to a block which is somebody
else's by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Generic, TypeAlias, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from . import forks
from .loop_budget import LoopBudget
from .signals import Signal

__all__ = ["Errand", "Errands"]

Errand: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")

_FILE_THREADS = 8  # files that are read at once
_SOURCE_THREADS = 8  # sources that are copied, and headers that are read, at once


class _Call(Generic[*Arguments, Value]):
    """One function call that a thread makes, or its caller withdraws. What was given and what came of it is let go of at once:
    a thread that idles keeps a reference to what it ran last."""

    def __init__(self, function: Callable[[Unpack[Arguments]], Value], arguments: tuple[*Arguments]) -> None:
        self._work = [(function, arguments)]  # popping it is atomic: it goes to the thread, or back to the caller
        self._result: list[Value] = []
        self._error: list[BaseException] = []

    def __call__(self) -> None:
        try:
            function, arguments = self._work.pop()
        except IndexError:
            return  # withdrawn, or begun before
        try:
            self._result.append(function(*arguments))
        except BaseException as error:  # SystemExit too: it is for the caller, and ends no task of the pool
            self._error.append(error)

    def withdraw(self) -> bool:
        """Take the work back. Returns whether it had not begun."""
        try:
            self._work.pop()
        except IndexError:
            return False
        return True

    def take_result(self) -> Value:
        """What the function returned; what it raised is raised here."""
        if self._error:
            raise self._error.pop()  # this frame, which its traceback refers to, must not refer to it
        return self._result.pop()


class Errands:
    """The tasks and threads of one pool."""

    def __init__(self) -> None:
        # not anyio's common threads: a server whose callers hold all of those while they wait for us would wait for ever
        self.own_threads = anyio.CapacityLimiter(inf)  # few by nature: starts, page moves
        # files have threads of their own, because a file system may make a thread wait for any time
        self.file_threads = anyio.CapacityLimiter(_FILE_THREADS)
        self.source_threads = anyio.CapacityLimiter(_SOURCE_THREADS)
        self.loop_budget = LoopBudget()  # for what is short enough to be done without a thread
        self._waiting: deque[Errand] = deque()
        self._came = Signal()
        self._for_good: list[anyio.CancelScope] = []  # of the tasks that run until `close`
        self._task_group: TaskGroup | None = None  # None: not open yet, or closed

    def open(self, task_group: TaskGroup, *for_good: Errand) -> None:
        """Begin, with tasks that run until `close`."""
        self._task_group = task_group
        for errand in (self._start_what_comes, self.loop_budget.refill, *for_good):
            task_group.start_soon(self._until_closed, errand)

    @property
    def closed(self) -> bool:
        """Whether no task is started any more, or yet."""
        return self._task_group is None

    def run(self, errand: Errand) -> None:
        """Have a task started, from wherever in the loop's thread. It must shield itself if it is to end by itself."""
        self._waiting.append(errand)
        self._came.set()

    async def in_thread(
        self, function: Callable[[Unpack[Arguments]], Value], *arguments: *Arguments, limiter: anyio.CapacityLimiter
    ) -> Value:
        """Run a function in a thread and return its result.

        A caller that is cancelled while it waits for a thread leaves at once, and the function is not run. Once the function
        has begun, the cancellation is raised when it has ended. Whatever the function raises, `SystemExit` too, reaches this
        caller only. When the system has no thread to give, the function runs here.
        """
        if self._task_group is None:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter)
        call = _Call(function, arguments)
        ended = Signal()
        scope = anyio.CancelScope(shield=True)
        born = forks.generation()

        async def errand() -> None:
            try:
                with scope:
                    await anyio.to_thread.run_sync(call, limiter=limiter)
            except RuntimeError:  # no thread
                call()
            finally:
                ended.set()

        self.run(errand)
        try:
            await ended.wait()
        except anyio.get_cancelled_exc_class():
            if call.withdraw():
                scope.cancel()
            elif born == forks.generation():  # else the thread is the parent's
                await ended.wait_whatever_happens()
            raise
        return call.take_result()

    def close(self) -> None:
        """Start what still waits, and end the tasks that run until now."""
        task_group, self._task_group = self._task_group, None
        assert task_group is not None
        while self._waiting:
            task_group.start_soon(self._waiting.popleft())
        for scope in self._for_good:
            scope.cancel()

    def cancel_all(self) -> None:
        """End everything, the block around the pool too: nothing can be trusted any more."""
        self.run(self._cancel_task_group)

    async def _cancel_task_group(self) -> None:
        if self._task_group is not None:
            self._task_group.cancel_scope.cancel()

    async def _start_what_comes(self) -> None:
        while True:
            await self._came.wait()
            self._came = Signal()
            while self._waiting:
                assert self._task_group is not None
                self._task_group.start_soon(self._waiting.popleft())

    async def _until_closed(self, errand: Errand) -> None:
        with anyio.CancelScope(shield=True) as scope:
            self._for_good.append(scope)
            await errand()
