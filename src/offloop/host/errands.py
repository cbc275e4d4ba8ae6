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
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from .signals import Signal

__all__ = ["Errand", "Errands"]

Errand: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")

_SOURCE_THREADS = 8  # files that are read and sources that are copied at once


class Errands:
    """The tasks and threads of one pool."""

    def __init__(self) -> None:
        # not anyio's common threads: a server whose callers hold all of those while they wait for us would wait for ever
        self.own_threads = anyio.CapacityLimiter(inf)  # few by nature: starts, page moves
        self.source_threads = anyio.CapacityLimiter(_SOURCE_THREADS)
        self._waiting: deque[Errand] = deque()
        self._came = Signal()
        self._for_good: list[anyio.CancelScope] = []  # of the tasks that run until `close`
        self._task_group: TaskGroup | None = None  # None: not open yet, or closed

    def open(self, task_group: TaskGroup, *for_good: Errand) -> None:
        """Begin, with tasks that run until `close`."""
        self._task_group = task_group
        for errand in (self._start_what_comes, *for_good):
            task_group.start_soon(self._until_closed, errand)

    def run(self, errand: Errand) -> None:
        """Have a task started, from wherever in the loop's thread. It must shield itself if it is to end by itself."""
        self._waiting.append(errand)
        self._came.set()

    async def in_thread(
        self, function: Callable[[Unpack[Arguments]], Value], *arguments: *Arguments, limiter: anyio.CapacityLimiter
    ) -> Value:
        """Run a function in a thread, and return or raise what it does, once it has ended; a cancellation of the caller is
        raised then. Whatever the function raises, `SystemExit` too, reaches this caller only.

        When the system has no thread to give, the function runs here.
        """
        if self._task_group is None:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter)
        ended = Signal()
        begun = False
        work = [(function, arguments)]  # taken out, as the outcome is: a thread that idles keeps what it did last
        outcome: list[Value] = []
        errors: list[BaseException] = []

        def call() -> None:
            nonlocal begun
            begun = True
            what, given = work.pop()
            try:
                outcome.append(what(*given))
            except BaseException as error:  # kept from this task, which it would end, and with it the pool
                errors.append(error)

        async def errand() -> None:
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(call, limiter=limiter)
            except Exception as error:
                if begun:
                    errors.append(error)
                else:
                    call()
            finally:
                ended.set()

        self.run(errand)
        await ended.wait_whatever_happens()
        if errors:
            raise errors.pop()  # this frame, which its traceback refers to, is not to refer to it
        return outcome.pop()

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
