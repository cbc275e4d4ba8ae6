"""Cancellation of a task: the flag, and the callbacks that stop a library."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from ..processor import TaskCancelled

__all__ = ["CancellableTask"]


class CancellableTask:
    """The part of `offloop.processor.Task` that concerns its cancellation."""

    _cancelled = False

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], object]] = []
        self._callbacks_lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Mark the task as cancelled and call the callbacks of `on_cancel`. May be called from any thread, repeatedly."""
        self._cancelled = True
        with self._callbacks_lock:
            for callback in self._callbacks:
                try:
                    callback()
                except Exception:  # a processor's defect; the calling thread must survive, because it repeats the call
                    sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType] (there is an exception here)

    def checkpoint(self) -> None:
        if self._cancelled:
            raise TaskCancelled

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Generator[None]:
        with self._callbacks_lock:
            self._callbacks.append(callback)
        if self._cancelled:
            callback()
        try:
            yield
        finally:
            with self._callbacks_lock:  # waits until a call in progress has returned
                self._callbacks.remove(callback)
