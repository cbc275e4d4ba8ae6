"""The background tasks and threads of one pool.

Each task is a task of the loop itself (`asyncio.Task`, or a system task of trio), and not a child of the task that entered the
pool. So no cancel scope of the caller reaches it, a loop callback can start it, and another task than the one that entered the
pool may leave it. A cancellation from outside is still possible: asyncio.run and trio.run cancel all tasks when their main task
has ended, and so do programs that cancel `asyncio.all_tasks()`. When any background task is cancelled that way, the observer is
notified, and the pool ends.
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
from .futures import OneShotEvent
from .loop_budget import LoopBudget
from .thread_call import ThreadCall

if TYPE_CHECKING:
    import trio

__all__ = ["BackgroundTasks", "Job"]

Job: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
Value = TypeVar("Value")
Arguments = TypeVarTuple("Arguments")

_FILE_THREADS = 8  # maximum number of small files read at once, and of other calls of the file system
_LARGE_FILE_THREADS = 8  # maximum number of large files read at once
_SMALL_FILE_NBYTES = 1024 * 1024  # a longer file is read by the threads for large ones
_SOURCE_THREADS = 8  # maximum number of sources copied and headers read at once


class _State(Enum):
    OPEN = "open"
    CLOSED = "closed"  # no task is started; running tasks end
    ENDED = "ended"  # all tasks have ended


class _Task(Protocol):
    """A task of either loop."""

    def cancel(self) -> object: ...
    def done(self) -> bool: ...


class _TaskObserver(Protocol):
    """Receives a call when a task ends abnormally, and when all have ended."""

    def task_cancelled(self) -> None:
        """A task was cancelled from outside."""
        ...

    def task_disposed(self) -> None:
        """A task's coroutine was closed unfinished, because its loop is closed or garbage collected."""
        ...

    def task_failed(self, error: BaseException) -> None:
        """A task raised an error."""
        ...

    def all_tasks_ended(self) -> None:
        """All tasks have ended after `BackgroundTasks.close`. Called again if the call was interrupted."""
        ...


class BackgroundTasks:
    """Starts the tasks and threads of one pool, and reports to the observer how they end."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None, observer: _TaskObserver) -> None:
        """Call it in the task that enters the pool, because all tasks inherit its context variables."""
        # not anyio's default limiter, because callers that wait for the pool may hold all of its threads: a deadlock
        self.own_threads = anyio.CapacityLimiter(inf)  # worker starts and page operations, which are few
        # files have their own threads, because a file system may block a thread for any time
        self.file_threads = anyio.CapacityLimiter(_FILE_THREADS)
        # large ones apart, so that small files do not wait behind them; and few at once, because all would be ready late
        self.large_file_threads = anyio.CapacityLimiter(_LARGE_FILE_THREADS)
        self.source_threads = anyio.CapacityLimiter(_SOURCE_THREADS)
        self.loop_budget = LoopBudget(loop)  # runs short functions on the loop, without a thread
        self._loop = loop  # None: trio's loop
        self._observer = observer
        self._context = contextvars.copy_context()
        self._state = _State.OPEN
        self._tasks: set[_Task] = set()
        self._until_closed: set[_Task] = set()  # the tasks that `close` cancels
        self._threads: set[OneShotEvent] = set()  # events that callers of `run_in_thread` wait for

    @property
    def closed(self) -> bool:
        """Whether `run` starts no more tasks."""
        return self._state is not _State.OPEN

    def threads_to_read(self, nbytes: int) -> anyio.CapacityLimiter:
        """The threads for files of this length in bytes."""
        return self.large_file_threads if nbytes > _SMALL_FILE_NBYTES else self.file_threads

    def run(self, job: Job, *, until_closed: bool = False, context: contextvars.Context | None = None) -> None:
        """Start a task, in the loop's thread. After `close`, does nothing.

        Args:
            job: an async function.
            until_closed: `close` cancels the task; otherwise it waits until the task ends.
            context: context variables for the task, which gets a copy. Default: those of the task that entered the pool.
        """
        if self._state is not _State.OPEN:
            return
        context = (context or self._context).copy()
        task = self._start_in_trio(job, context) if self._loop is None else self._start_in_asyncio(job, context, self._loop)
        self._tasks.add(task)
        if until_closed:
            self._until_closed.add(task)

    async def run_in_thread(
        self, function: Callable[[Unpack[Arguments]], Value], *arguments: *Arguments, limiter: anyio.CapacityLimiter
    ) -> Value:
        """Run a function in a thread and return its result.

        If the caller is cancelled while it waits for a thread, the function is not run. If the function has begun, the
        cancellation is raised when the function has ended. Each exception of the function, `SystemExit` too, reaches this
        caller only. If no thread can be started, the function runs in the loop's thread.

        A background task waits for the thread, because asyncio's `Task.cancel` ignores anyio's shields: the caller would
        continue while the thread still writes to a block.

        Raises:
            PoolClosed: the event loop ended before the function had.
        """
        if self._state is not _State.OPEN:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=limiter)
        call = ThreadCall(function, arguments)
        ended = OneShotEvent(self._loop)
        scope = anyio.CancelScope()
        generation = fork_safety.generation()

        async def wait_for_thread() -> None:
            try:
                with scope:
                    await anyio.to_thread.run_sync(call, limiter=limiter)
            except RuntimeError:  # no thread can be started
                call()
            finally:
                ended.set()

        self.run(wait_for_thread)
        self._threads.add(ended)
        try:
            await ended.wait()
        except anyio.get_cancelled_exc_class():
            if call.withdraw():
                scope.cancel()
            elif generation == fork_safety.generation():  # in a forked child, the thread does not exist
                await ended.wait_uncancellable()
            raise
        finally:
            self._threads.discard(ended)
        return call.pop_result()

    def close(self) -> None:
        """Start no more tasks, cancel the `until_closed` ones, and notify the observer when the last task has ended."""
        self._state = _State.CLOSED if self._state is _State.OPEN else self._state
        for task in tuple(self._until_closed):
            task.cancel()
        self._check_ended()

    def cancel_all(self) -> None:
        """Close, cancel all tasks, and stop waiting for threads."""
        self.close()
        for ended in tuple(self._threads):
            ended.set()  # because a task that is cancelled before its first step does not set it
        for task in tuple(self._tasks):
            task.cancel()

    def _start_in_asyncio(self, job: Job, context: contextvars.Context, loop: asyncio.AbstractEventLoop) -> _Task:
        # not the loop's task factory, because an eager one would run the task while the core decides
        task = asyncio.Task(self._watch_for_disposal(job), loop=loop, context=context)
        task.add_done_callback(self._on_asyncio_task_done)
        return task

    def _on_asyncio_task_done(self, task: asyncio.Task[None]) -> None:
        try:
            self._report_end(task)
        except BaseException:  # KeyboardInterrupt: it stops the loop, so this is the last chance to report the end
            self._report_end(task)
            raise

    def _report_end(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if self._state is _State.OPEN:
                self._observer.task_cancelled()
        elif (error := task.exception()) is not None:
            self._observer.task_failed(error)
        self._check_ended()

    async def _watch_for_disposal(self, job: Job) -> None:
        """Run a job, and notify the observer if its coroutine is closed unfinished (loop closed or garbage collected)."""
        try:
            await job()
        except GeneratorExit:
            self._observer.task_disposed()
            raise

    def _start_in_trio(self, job: Job, context: contextvars.Context) -> _Task:
        import trio  # noqa: PLC0415 (imported already: its loop is running)

        task = _TrioTask(trio.CancelScope())

        async def run() -> None:
            try:
                with task.scope:
                    await job()
            except Exception as error:
                self._observer.task_failed(error)
            except GeneratorExit:
                self._observer.task_disposed()
                raise
            except BaseException:  # trio.Cancelled, because the trio run ends
                if self._state is _State.OPEN:
                    self._observer.task_cancelled()
                raise
            finally:
                task.is_done = True
                self._check_ended()

        trio.lowlevel.spawn_system_task(run, context=context)
        return task

    def _check_ended(self) -> None:
        self._tasks = {task for task in self._tasks if not task.done()}
        if self._state is _State.CLOSED and not self._tasks:
            self._observer.all_tasks_ended()
            self._state = _State.ENDED


class _TrioTask:
    """Handle of a trio system task, because trio has none that can be cancelled."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.scope = scope
        self.is_done = False

    def cancel(self) -> None:
        self.scope.cancel()

    def done(self) -> bool:
        return self.is_done
