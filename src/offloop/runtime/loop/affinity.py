"""Where a pool lives: one process, one thread, one event loop. Everything that decides happens there and nowhere else."""

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
    """The process, thread and loop in which this was made."""

    def __init__(self) -> None:
        self.loop = find_asyncio_loop()  # None: trio's
        # a thread runs one loop at a time; asking which one costs a call of the system on Python 3.11
        self._loop_runs: Callable[[], bool] = _always if self.loop is None else self.loop.is_running
        self._pid = os.getpid()
        self.forked = False  # True in a child of the process that it names; set there by the supervisor
        self._thread_id = get_ident()
        self._thread_name = threading.current_thread().name
        task = None if self.loop is None else asyncio.current_task()
        self._task = None if task is None else weakref.ref(task)

    @property
    def in_thread(self) -> bool:
        """Whether the caller is in the thread that it names."""
        return get_ident() == self._thread_id

    @property
    def is_current(self) -> bool:
        """Whether the caller is at home."""
        return get_ident() == self._thread_id and self._loop_runs() and not self.forked

    def check(self) -> None:
        """Return if the caller is at home.

        Raises:
            PoolMisused: it is not.
        """
        if get_ident() != self._thread_id or self.forked or not self._loop_runs():
            raise self.error()

    @property
    def loop_runs(self) -> bool:
        """Whether the loop is running, so far as that can be told: trio's counts as running until its tasks are thrown away."""
        return self._loop_runs()

    @property
    def entering_task_is_done(self) -> bool:
        """Whether the task that entered the pool has ended, so that only another one can leave it. On trio always true."""
        task = None if self._task is None else self._task()
        return task is None or task.done()

    def error(self) -> PoolMisused:
        """Where the caller is instead."""
        if self.forked:
            return PoolMisused("process", str(self._pid), str(os.getpid()))
        if not self.in_thread:
            return PoolMisused("thread", repr(self._thread_name), repr(threading.current_thread().name))
        return PoolMisused("event loop", _described(self.loop), _described(find_asyncio_loop()))


def _always() -> bool:
    """trio's loop: nothing else can run in its thread before it has ended, and the pool with it."""
    return True


def _described(loop: object) -> str:
    return "no asyncio loop" if loop is None else repr(loop)
