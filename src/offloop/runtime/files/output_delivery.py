"""Opens the output files of running tasks when their workers ask, passes them on, and closes them when the tasks are over."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import anyio.to_thread

from ...core.model.commands import OpenOutput, SendFile
from ...core.model.events import Event, OutputOpened
from ..loop.background import BackgroundTasks
from ..workers.connection import WorkerConnection
from .output_files import OutputFile

__all__ = ["OutputDelivery"]


class OutputDelivery:
    """The output files of tasks that are not over, by the task."""

    def __init__(
        self, background: BackgroundTasks, workers: dict[int, WorkerConnection], apply: Callable[[Event], None]
    ) -> None:
        self._background = background
        self._workers = workers
        self._apply = apply
        self._files: dict[int, OutputFile] = {}

    def add(self, task_id: int, output: OutputFile) -> None:
        """The task's result goes into this file, which its worker will ask for."""
        self._files[task_id] = output

    def discard(self, task_id: int) -> None:
        """The task is over, and its file is published or not wanted. It is closed in a thread: that may free much."""
        output = self._files.pop(task_id)
        if self._background.closed:
            output.discard()
            return

        async def discard() -> None:
            with suppress(RuntimeError):  # no thread
                await anyio.to_thread.run_sync(output.discard, limiter=self._background.own_threads)
                return
            output.discard()

        self._background.run(discard)

    def open(self, command: OpenOutput) -> None:
        """Open the file in a thread, and tell what came of it."""
        output, background = self._files[command.task_id], self._background

        async def open_it() -> None:
            try:
                error = await anyio.to_thread.run_sync(output.open, limiter=background.file_threads)
            except RuntimeError:  # no thread
                error = output.open()
            self._apply(OutputOpened(command.slot, command.task_id, command.dispatch, error))

        background.run(open_it)

    def send(self, command: SendFile) -> None:
        """Pass the open file to the worker, or tell why the system does not."""
        output = self._files[command.task_id]
        error = self._workers[command.slot].send_file(command.task_id, output.descriptor)
        if error is not None:
            self._apply(OutputOpened(command.slot, command.task_id, command.dispatch, output.cannot_write(error)))
