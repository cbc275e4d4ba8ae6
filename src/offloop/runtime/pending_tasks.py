"""Maps each unsettled task id to the future that its caller awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from ..core.model.commands import DeliverOutput, ProvideSourceMemory, RestageSource, SettleTask
from ..core.model.events import Event, TaskSubmitted
from ..core.model.task import Completed, TaskOutput, TaskSpec
from ..errors import OffloopError
from .loop.futures import TaskFuture
from .memory.source_file import CallerMemory
from .telemetry.event_stream import EventStream

__all__ = ["PendingTasks"]


class PendingTasks:
    """Futures of all unsettled tasks, by task id."""

    def __init__(
        self,
        apply: Callable[[Event], None],
        view_output: Callable[[TaskOutput], memoryview | None],
        event_stream: EventStream,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._loop = loop
        self._apply = apply
        self._view_output = view_output
        self._event_stream = event_stream
        self._futures: dict[int, TaskFuture] = {}
        self.handlers: dict[type, Callable[[Any], None]] = {
            SettleTask: self._settle,
            DeliverOutput: self._deliver,
            ProvideSourceMemory: self._provide_memory,
            RestageSource: self._stage_again,
        }
        """Handlers of commands for callers of tasks, by the type of the command."""

    def submit(
        self,
        task_id: int,
        spec: TaskSpec,
        nbytes: int,
        *,
        staged: bool,
        copy_nbytes: int = 0,
        memory: Sequence[CallerMemory] = (),
    ) -> TaskFuture:
        """Submit a task and return its future, which may be settled at once.

        Args:
            task_id: a new id.
            spec: the specification; complete, if the sources are staged.
            nbytes: length of the sources together, in bytes; 0: unknown.
            staged: whether the sources lie where a worker can read them.
            copy_nbytes: length of the block for copies of the sources, in bytes; 0: not known yet, or there are none.
            memory: the sources that stay with the caller, in the order of their handles' offsets.
        """
        if self._event_stream.observers.are_there:
            self._event_stream.observers.task_submitted(task_id)
        future = self._futures[task_id] = TaskFuture(self._loop)
        if memory:
            future.memory = memory
        self._apply(TaskSubmitted(task_id, spec, nbytes, staged, copy_nbytes))
        return future

    def memory_of(self, task_id: int) -> Sequence[CallerMemory] | None:
        """The sources of a task that stay with its caller until it is sent. None: the task is settled."""
        future = self._futures.get(task_id)
        return None if future is None else future.memory

    def _settle(self, command: SettleTask) -> None:
        """Set the outcome of a task's future, and forget the future."""
        outcome = command.outcome
        output = outcome.output if isinstance(outcome, Completed) else None
        view = None if output is None else self._view_output(output)
        future = self._futures[command.task_id]
        if future.files is not None:
            future.files.close()
        future.set_result(outcome, view)
        del self._futures[command.task_id]  # last, because a KeyboardInterrupt before this line still fails the future

    def _deliver(self, command: DeliverOutput) -> None:
        """Give an output to the caller of an unsettled task."""
        output = command.output
        self._futures[command.task_id].add_output(output, self._view_output(output) if isinstance(output, TaskOutput) else None)

    def _provide_memory(self, command: ProvideSourceMemory) -> None:
        """Give the stager of a task the block for its sources."""
        self._futures[command.task_id].provide(command.block)

    def _stage_again(self, command: RestageSource) -> None:
        """Wake the caller of a waiting task whose source was removed from memory, so that it stages the source again."""
        self._futures[command.task_id].request_staging()

    def close_files(self) -> None:
        """Close the source files of every unsettled task, because no task will be sent any more."""
        for future in self._futures.values():
            if future.files is not None:
                future.files.close()

    def fail_all(self, error: OffloopError) -> None:
        """Settle every unsettled task with this error, because the core decides nothing any more."""
        for future in self._futures.values():
            if not future.settled:
                future.set_result(copy(error), None)  # a copy for each caller, because raising changes the traceback
            future.set()
