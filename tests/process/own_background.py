"""A pool's background tasks, for tests without a pool."""

from __future__ import annotations

from offloop.runtime.loop.background import BackgroundTasks
from offloop.runtime.loop.event_loop import find_asyncio_loop

__all__ = ["background"]


class _Watcher:
    """None of these tasks is cancelled, and none fails."""

    def task_cancelled(self) -> None:
        raise AssertionError

    def task_disposed(self) -> None:
        raise AssertionError

    def task_failed(self, error: BaseException) -> None:
        raise AssertionError from error

    def all_tasks_ended(self) -> None:
        raise AssertionError


def background() -> BackgroundTasks:
    """Of the running loop."""
    return BackgroundTasks(find_asyncio_loop(), _Watcher())
