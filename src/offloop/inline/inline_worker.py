"""The workers of `Pool(inline=True)`: threads that run the plugins' processors in the server's process.

A debugger and a coverage tool see the code of a task, and a test can change its modules. Without isolation, a crash ends the
server, and a task that does not stop by itself cannot be stopped.
"""

from __future__ import annotations

import threading
from contextlib import suppress

from ..runtime.workers.launcher import LaunchedWorker
from ..wire.messages import Loading, Ready
from ..worker.main import serve
from ..worker.processors import ProcessorCache
from ..worker.task_runner import TaskRunner
from .thread_worker import ThreadChannel, ThreadWorker, UnmeasuredMemory, WorkerExit

__all__ = ["launch_inline"]


def launch_inline(inbox_fd: int, outbox_fd: int, /) -> LaunchedWorker:
    """Implements `offloop.runtime.workers.launcher.Launcher` with threads."""
    return _InlineWorker(inbox_fd, outbox_fd, _InlineChannel)


class _InlineChannel(ThreadChannel):
    """Channel whose control thread ends with the worker."""

    _has_ended = False

    def close(self) -> None:
        self._has_ended = True
        self._wake.release()
        super().close()

    def _watch_tasks(self) -> None:
        with suppress(WorkerExit, OSError, ValueError):  # the channel is closed
            super()._watch_tasks()

    def _sleep_until_watch(self) -> None:
        super()._sleep_until_watch()
        if self._has_ended:
            raise WorkerExit(0)


class _InlineRunner(TaskRunner):
    """Runs tasks in a thread of the server, whose CPU time is not the worker's."""

    def _cpu_ns_since_last_task(self) -> int:
        return 0


class _InlineWorker(ThreadWorker[_InlineChannel]):
    def serve(self, channel: _InlineChannel, inbox_fd: int, outbox_fd: int) -> None:
        configure, inbox, outbox = self.configured(channel, inbox_fd, outbox_fd)
        processors = ProcessorCache(configure.slot, configure.plugins)
        channel.send(Loading(threading.get_native_id()))
        failed = processors.load_all(outbox.first_page)
        channel.start_control(lambda: None)
        channel.send(Ready(threading.get_native_id(), 0, failed))
        serve(channel, _InlineRunner(channel, outbox, processors, UnmeasuredMemory()), inbox, outbox)
