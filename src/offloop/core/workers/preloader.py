"""Which plugins a worker that has nothing to do should load ahead of its first task.

A worker loads a plugin when a task asks for it, and for the first task that is most of its time. But a spare, or a worker that
takes a dead one's place, is there to be quick: it is told to load every plugin that has done a task in this pool before. One
that has not might be broken, and what is broken is for the task that asks for it to find out.
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
    """Knows what has proved itself, and who has not loaded it."""

    def __init__(self, worker_table: WorkerTable) -> None:
        self._worker_table = worker_table
        self._proven: set[str] = set()

    def on_worker_ready(self, slot: WorkerSlot) -> list[Command]:
        """A worker is ready and has nothing to do."""
        return [Send(slot.index, Warm(sorted(self._proven)))] if self._proven else []

    def on_task_succeeded(self, task: TaskRecord) -> list[Command]:
        """A task succeeded."""
        assert task.spec is not None
        commands: list[Command] = []
        for stage in task.spec.stages:
            if stage.plugin not in self._proven:
                self._proven.add(stage.plugin)
                waiting = (slot for slot in self._worker_table if slot.unused and slot.state is WorkerState.IDLE)
                commands += [Send(slot.index, Warm([stage.plugin])) for slot in waiting]
        return commands
