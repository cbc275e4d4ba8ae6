"""Plugin preloader: idle workers load plugins before their first task.

A worker loads a plugin when a task needs it, which takes most of the time of that first task. A spare, or the replacement of a
dead worker, must be quick. So it is told to load every plugin with which a task has succeeded in this pool. Other plugins are
not preloaded, because they may be broken, and the task that needs a broken plugin must get the error.
"""

from __future__ import annotations

from ...wire.messages import Warm
from ..model.commands import Command, Send
from ..model.task import TaskRecord
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerState
from .worker_table import WorkerTable

__all__ = ["PluginPreloader"]


class PluginPreloader:
    """The plugins that have worked in this pool; tells idle workers to load them."""

    def __init__(self, worker_table: WorkerTable) -> None:
        self._worker_table = worker_table
        self._proven: set[str] = set()  # names of plugins with which a task has succeeded

    def on_worker_ready(self, slot: WorkerSlot) -> list[Command]:
        """A worker has become ready, and no task waits for it."""
        return [Send(slot.index, Warm(sorted(self._proven)))] if self._proven else []

    def on_task_succeeded(self, task: TaskRecord) -> list[Command]:
        """A task has succeeded: its plugins may be preloaded from now on."""
        commands: list[Command] = []
        for stage in task.spec.stages:
            if stage.plugin not in self._proven:
                self._proven.add(stage.plugin)
                idle = (slot for slot in self._worker_table if slot.unused and slot.state is WorkerState.IDLE)
                commands += [Send(slot.index, Warm([stage.plugin])) for slot in idle]
        return commands
