"""Opens output files when workers ask for them, passes the descriptors, and closes the files when the tasks have ended."""

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
    """The output files of unfinished tasks, by task id."""

    def __init__(
        self, background: BackgroundTasks, workers: dict[int, WorkerConnection], apply: Callable[[Event], None]
    ) -> None:
        self._background = background
        self._workers = workers
        self._apply = apply
        self._files: dict[int, OutputFile] = {}

    def add(self, task_id: int, output: OutputFile) -> None:
        """Register the output file of a task."""
        self._files[task_id] = output

    def discard(self, task_id: int) -> None:
        """Discard the file of an ended task, published or not. In a thread, because closing a large unnamed file takes time."""
        output = self._files.pop(task_id)
        if self._background.closed:
            output.discard()
            return

        async def discard() -> None:
            with suppress(RuntimeError):  # no thread can be started
                await anyio.to_thread.run_sync(output.discard, limiter=self._background.own_threads)
                return
            output.discard()

        self._background.run(discard)

    def open(self, command: OpenOutput) -> None:
        """Open the file in a thread, and report `OutputOpened` to the core."""
        output, background = self._files[command.task_id], self._background

        async def open_it() -> None:
            try:
                error = await anyio.to_thread.run_sync(output.open, limiter=background.file_threads)
            except RuntimeError:  # no thread can be started
                error = output.open()
            self._apply(OutputOpened(command.slot, command.task_id, command.dispatch, error))

        background.run(open_it)

    def send(self, command: SendFile) -> None:
        """Pass the open file to the worker. If the system refuses, report it to the core."""
        output = self._files[command.task_id]
        error = self._workers[command.slot].send_file(command.task_id, output.descriptor)
        if error is not None:
            self._apply(OutputOpened(command.slot, command.task_id, command.dispatch, output.cannot_write(error)))
