"""Where callers leave their tasks, and are called for the outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy

from ..core.model.blocks import Block
from ..core.model.commands import RestageSource, SettleTask
from ..core.model.events import Event, TaskSubmitted
from ..core.model.task import Completed, TaskSpec
from ..errors import OffloopError
from .loop.futures import TaskFuture

__all__ = ["PendingTasks"]


class PendingTasks:
    """The tickets of all tasks that have no outcome yet."""

    def __init__(
        self,
        apply: Callable[[Event], None],
        result_view: Callable[[Completed, Block], memoryview],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._loop = loop
        self._apply = apply
        self._result_view = result_view
        self._futures: dict[int, TaskFuture] = {}

    def submit(self, task_id: int, spec: TaskSpec | None, nbytes: int = 0) -> TaskFuture:
        """Enter a task; no spec: its source is still to be prepared, and has so many bytes if that is known. It may be settled
        at once."""
        future = self._futures[task_id] = TaskFuture(self._loop)
        self._apply(TaskSubmitted(task_id, spec, nbytes))
        return future

    def settle(self, command: SettleTask) -> None:
        """A task has its outcome."""
        outcome = command.outcome
        view: memoryview | None = None
        if isinstance(outcome, Completed) and outcome.block is not None:
            view = self._result_view(outcome, outcome.block)
        self._futures[command.task_id].set_result(outcome, view)
        del self._futures[command.task_id]  # last: a KeyboardInterrupt before it is told to every ticket that is left

    def stage_again(self, command: RestageSource) -> None:
        """The source of a task that waits for a worker is no longer in memory."""
        self._futures[command.task_id].set()

    def fail_all(self, error: OffloopError) -> None:
        """Settle every task that has no outcome with this error, because nothing is decided any more."""
        for future in self._futures.values():
            if not future.settled:
                future.set_result(copy(error), None)  # each caller raises its own
            future.set()
