"""Observers of a pool: objects that are called for its events at once, in the thread of its loop."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ...pool_events import PoolEvent, PoolObserver
from .safe_logging import SafeLogger

__all__ = ["Observers"]

_log = SafeLogger("offloop.supervisor")


class Observers:
    """The observers of one pool. They may be added before the pool is entered."""

    def __init__(self) -> None:
        self.are_there = False  # whether there is an observer; an attribute, because it is read for each task
        self.need_worker_moves = False  # whether one of them needs `WorkerMoved`
        self._observers: tuple[PoolObserver, ...] = ()
        self._on_change: Callable[[], None] = _ignore

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this function now, and after each change."""
        self._on_change = callback
        callback()

    def add(self, observer: PoolObserver) -> None:
        """Call an observer from now on."""
        self._set((*self._observers, observer))

    def remove(self, observer: PoolObserver) -> None:
        """Call an observer no more. One that is not there is ignored."""
        self._set(tuple(other for other in self._observers if other is not observer))

    def _set(self, observers: tuple[PoolObserver, ...]) -> None:
        self._observers, self.are_there = observers, bool(observers)
        self.need_worker_moves = any(observer.needs_worker_moves for observer in observers)
        self._on_change()

    def task_submitted(self, task_id: int) -> None:
        """Tell all observers that the caller, in whose context this is called, submits a task."""
        for observer in self._observers:
            _call(observer.task_submitted, task_id)

    def task_shared(self, task_id: int) -> None:
        """Tell all observers that the caller, in whose context this is called, waits for the task of another call."""
        for observer in self._observers:
            _call(observer.task_shared, task_id)

    def publish(self, event: PoolEvent) -> None:
        """Tell all observers of an event."""
        for observer in self._observers:
            _call(observer.event_published, event)


def _call(method: Callable[..., None], argument: object) -> None:
    try:
        method(argument)
    except Exception as error:  # an observer is the user's code, and must not end the pool
        text = repr(error)  # because a kept record must not refer to the frames of the pool
        _log.log(logging.ERROR, "the observer %s failed: %s", method.__qualname__, text)


def _ignore() -> None:
    """The pool was not entered yet."""
