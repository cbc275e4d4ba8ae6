"""The background tasks and threads of one pool.

Each task is a task of the loop itself (`asyncio.Task`, or a system task of trio), and no child of the task that entered the
pool. So no cancel scope of the caller reaches it, it can be started in a callback of the loop, and the pool may be left in
another task than the one that entered it. What remains is a cancellation from outside: asyncio.run and trio.run cancel all
tasks when their main task has ended, and so do programs that cancel `asyncio.all_tasks()`. It is reported when it happens to
any of the tasks, and the pool ends.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread

from . import fork_safety
from .loop_budget import LoopBudget
from .oneshot_event import OneShotEvent
from .thread_call import ThreadCall

if TYPE_CHECKING:
    import trio

__all__ = ["BackgroundTasks", "Job"]

Job: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")

_FILE_THREADS = 8  # files that are read at once
_SOURCE_THREADS = 8  # sources that are copied, and headers that are read, at once


class _State(Enum):
    OPEN = "open"
    CLOSED = "closed"  # no task is started any more; those that run come to their end
    ENDED = "ended"  # none is left


class _Task(Protocol):
    """A task of either loop."""

    def cancel(self) -> object: ...
    def done(self) -> bool: ...


class _TaskObserver(Protocol):
    """What is told how tasks end."""

    def task_cancelled(self) -> None:
        """A task was cancelled from outside."""
        ...

    def task_disposed(self) -> None:
        """A task's coroutine was thrown away half-way, because its loop is closed or forgotten."""
        ...

    def task_failed(self, error: BaseException) -> None:
        """A task raised."""
        ...

    def all_tasks_ended(self) -> None:
        """No task is left, after `Errands.close`. Told again if it was interrupted."""
        ...


class BackgroundTasks:
    """Starts tasks and threads, and reports how they end."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None, watcher: _TaskObserver) -> None:
        """Made in the task that enters the pool: its context variables are the tasks'."""
        # not anyio's common threads: a server whose callers hold all of those while they wait for us would wait for ever
        self.own_threads = anyio.CapacityLimiter(inf)  # few by nature: starts, page moves
        # files have threads of their own, because a file system may make a thread wait for any time
        self.file_threads = anyio.CapacityLimiter(_FILE_THREADS)
        self.source_threads = anyio.CapacityLimiter(_SOURCE_THREADS)
        self.loop_budget = LoopBudget(loop)  # for what is short enough to be done without a thread
        self._loop = loop  # None: trio's
        self._watcher = watcher
        self._context = contextvars.copy_context()
        self._state = _State.OPEN
        self._tasks: set[_Task] = set()
        self._until_closed: set[_Task] = set()  # those of the tasks that `close` cancels
        self._threads: set[OneShotEvent] = set()  # what callers of `in_thread` wait for

    @property
    def closed(self) -> bool:
        """Whether no task is started any more."""
        return self._state is not _State.OPEN

    def run(self, errand: Job, *, until_closed: bool = False) -> None:
        """Start a task, in the loop's thread; `close` cancels it, or lets it end by itself. Does nothing once it is closed."""
        if self._state is not _State.OPEN:
            return
        task = self._start_in_trio(errand) if self._loop is None else self._start_in_asyncio(errand, self._loop)
        self._tasks.add(task)
        if until_closed:
            self._until_closed.add(task)

    async def run_in_thread(
        self, function: Callable[[Unpack[Arguments]], Value], *arguments: *Arguments, limiter: anyio.CapacityLimiter
    ) -> Value:
        """Run a function in a thread and return its result.

        A caller that is cancelled while it waits for a thread leaves at once, and the function is not run. Once the function
        has begun, the cancellation is raised when it has ended. Each exception of the function, `SystemExit` too, reaches this
        caller only. When the system has no thread to give, the function runs here.

        It is waited for in a task of its own, because asyncio's `Task.cancel` goes through anyio's shields: the caller would go
        on while the thread still writes to a block.

        Raises:
            PoolClosed: the event loop ended meanwhile.
        """
        if self._state is not _State.OPEN:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter)
        call = ThreadCall(function, arguments)
        ended = OneShotEvent(self._loop)
        scope = anyio.CancelScope()
        born = fork_safety.generation()

        async def errand() -> None:
            try:
                with scope:
                    await anyio.to_thread.run_sync(call, limiter=limiter)
            except RuntimeError:  # no thread
                call()
            finally:
                ended.set()

        self.run(errand)
        self._threads.add(ended)
        try:
            await ended.wait()
        except anyio.get_cancelled_exc_class():
            if call.withdraw():
                scope.cancel()
            elif born == fork_safety.generation():  # else the thread is the parent's
                await ended.wait_uncancellable()
            raise
        finally:
            self._threads.discard(ended)
        return call.take_result()

    def close(self) -> None:
        """Start no task any more, cancel those that run until now, and have the watcher told when the last one has ended."""
        self._state = _State.CLOSED if self._state is _State.OPEN else self._state
        for task in tuple(self._until_closed):
            task.cancel()
        self._check_ended()

    def cancel_all(self) -> None:
        """As `close`, and cancel all tasks, and wait for no thread any more."""
        self.close()
        for ended in tuple(self._threads):
            ended.set()  # a task that was cancelled before its first step could not
        for task in tuple(self._tasks):
            task.cancel()

    def _start_in_asyncio(self, errand: Job, loop: asyncio.AbstractEventLoop) -> _Task:
        # no task factory of the program's: an eager one would run the task in the middle of a decision
        task = asyncio.Task(self._watch_for_disposal(errand), loop=loop, context=self._context.copy())
        task.add_done_callback(self._on_asyncio_task_done)
        return task

    def _on_asyncio_task_done(self, task: asyncio.Task[None]) -> None:
        try:
            self._report_end(task)
        except BaseException:  # KeyboardInterrupt: it stops the loop, and nothing would report this end any more
            self._report_end(task)
            raise

    def _report_end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if self._state is _State.OPEN:
                self._watcher.task_cancelled()
        elif (error := task.exception()) is not None:
            self._watcher.task_failed(error)
        self._check_ended()

    async def _watch_for_disposal(self, errand: Job) -> None:
        """Run a task, and report if its coroutine is thrown away half-way: its loop was closed, or forgotten."""
        try:
            await errand()
        except GeneratorExit:
            self._watcher.task_disposed()
            raise

    def _start_in_trio(self, errand: Job) -> _Task:
        import trio  # noqa: PLC0415 (it runs us)

        task = _TrioTask(trio.CancelScope())

        async def run() -> None:
            try:
                with task.scope:
                    await errand()
            except Exception as error:
                self._watcher.task_failed(error)
            except GeneratorExit:
                self._watcher.task_disposed()
                raise
            except BaseException:  # trio.Cancelled, because the run ends
                if self._state is _State.OPEN:
                    self._watcher.task_cancelled()
                raise
            finally:
                task.has_ended = True
                self._check_ended()

        trio.lowlevel.spawn_system_task(run, context=self._context.copy())
        return task

    def _check_ended(self) -> None:
        self._tasks = {task for task in self._tasks if not task.done()}
        if self._state is _State.CLOSED and not self._tasks:
            self._watcher.all_tasks_ended()
            self._state = _State.ENDED


class _TrioTask:
    """A system task of trio's, which has no handle of its own."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.has_ended = False

    def cancel(self) -> None:
        self.scope.cancel()

    def done(self) -> bool:
        return self.has_ended
