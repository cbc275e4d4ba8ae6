"""`offloop.Context`: what a function in a worker sees of its task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from ..processor import Task

__all__ = ["Context"]


class Context:
    """The running task, for a function in a worker. A parameter with this annotation gets it; callers do not pass it.

        @function
        def count(data: memoryview, context: Context) -> int:
            for done, part in enumerate(parts := split(data)):
                context.progress(done / len(parts))
                context.checkpoint()
                ...

    It is valid until the function returns, or a generator function ends.
    """

    __slots__ = ("_task",)

    def __init__(self, task: Task) -> None:
        self._task = task

    @property
    def cancelled(self) -> bool:
        """Whether the task has to stop, because its time is over or its caller cancelled it."""
        return self._task.cancelled

    @property
    def threads(self) -> int:
        """Maximum number of threads that the task may compute with."""
        return self._task.threads

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the call: `pool.call(..., labels={"request_id": "4711"})`."""
        return self._task.labels

    def checkpoint(self) -> None:
        """Raise `offloop.TaskCancelled` if the task has to stop. For loops written in Python."""
        self._task.checkpoint()

    def progress(self, fraction: float) -> None:
        """Report the progress of the task, from 0 to 1, to `on_progress` of its caller. It sends no message."""
        self._task.progress(fraction)

    def on_cancel(self, callback: Callable[[], object]) -> AbstractContextManager[None]:
        """Returns a context manager. If the task is cancelled inside its block, another thread calls `callback`, repeatedly,
        until the block ends."""
        return self._task.on_cancel(callback)

    def allocate(self, nbytes: int) -> memoryview:
        """Returns writable shared memory of `nbytes` bytes for a result, contents undefined.

        If the function returns it, whole, or an array over it, and nothing else in shared memory, the result is not copied.

        Raises:
            TaskCancelled: the task has to stop.
            TaskFailed: the pool can never grant that much; the code is "memory_limit".
        """
        return self._task.allocate(nbytes)
