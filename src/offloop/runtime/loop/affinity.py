"""The process, thread and event loop that a pool belongs to, and the check that a caller is in them."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable
from threading import get_ident

from ...errors import PoolMisused
from .event_loop import find_asyncio_loop

__all__ = ["LoopAffinity"]


class LoopAffinity:
    """The process, thread and event loop in which the object was made. Only there may the core decide."""

    def __init__(self) -> None:
        self.loop = find_asyncio_loop()  # None: trio's loop
        # `is_running` is enough, because a thread runs one loop at a time; `_get_running_loop` is a system call on Python 3.11
        self._loop_runs: Callable[[], bool] = _always if self.loop is None else self.loop.is_running
        self._pid = os.getpid()
        self.forked = False  # True in a forked child of the pool's process; the supervisor sets it
        self._thread_id = get_ident()
        self._thread_name = threading.current_thread().name
        task = None if self.loop is None else asyncio.current_task()
        self._task = None if task is None else weakref.ref(task)

    @property
    def in_thread(self) -> bool:
        """Whether the caller is in the pool's thread."""
        return get_ident() == self._thread_id

    @property
    def is_current(self) -> bool:
        """Whether the caller is in the pool's process, thread and loop."""
        return get_ident() == self._thread_id and self._loop_runs() and not self.forked

    def check(self) -> None:
        """Check that the caller is in the pool's process, thread and loop.

        Raises:
            PoolMisused: the caller is elsewhere.
        """
        if get_ident() != self._thread_id or self.forked or not self._loop_runs():
            raise self.error()

    @property
    def loop_runs(self) -> bool:
        """Whether the loop is running. A trio loop counts as running, because its state is unknown."""
        return self._loop_runs()

    @property
    def entering_task_is_done(self) -> bool:
        """Whether the task that entered the pool has ended, so that only another task can leave it. Always true on trio."""
        task = None if self._task is None else self._task()
        return task is None or task.done()

    def error(self) -> PoolMisused:
        """The error of a caller that is in another process, thread or loop."""
        if self.forked:
            return PoolMisused("process", str(self._pid), str(os.getpid()))
        if not self.in_thread:
            return PoolMisused("thread", repr(self._thread_name), repr(threading.current_thread().name))
        return PoolMisused("event loop", _described(self.loop), _described(find_asyncio_loop()))


def _always() -> bool:
    """`is_running` of a trio loop: always true, because no other loop runs in its thread before the trio run has ended."""
    return True


def _described(loop: object) -> str:
    return "no asyncio loop" if loop is None else repr(loop)
