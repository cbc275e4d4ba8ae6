"""A crew and who hires it, without tasks: the workers come, work and go as a test says."""

from __future__ import annotations

from typing import Any

from offloop.core.memory.arena import Arena
from offloop.core.model.commands import Command
from offloop.core.model.events import WorkerExited
from offloop.core.model.settings import CoreSettings
from offloop.core.model.worker_slot import WorkerSlot
from offloop.core.model.worker_state import WorkerEvent, WorkerState
from offloop.core.tasks.crash_report import build_crash_report
from offloop.core.workers.reconciler import WorkerReconciler
from offloop.core.workers.worker_table import WorkerTable

E, S = WorkerEvent, WorkerState


class Firm:
    """A crew and who hires it."""

    def __init__(self, workers: int = 1, **more: Any) -> None:
        settings = CoreSettings(
            workers=workers,
            limit_bytes=1_000_000,
            inbox_nbytes=500_000,
            max_queue=None,
            grace_s=1.0,
            start_timeout_s=10.0,
            **more,
        )
        self.now = 0.0
        self.worker_table = WorkerTable(workers)
        self.arena = Arena(1_000_000, 500_000)
        self.reconciler = WorkerReconciler(self.worker_table, self.arena, settings)

    @property
    def slot(self) -> WorkerSlot:
        return self.worker_table[0]

    @property
    def states(self) -> list[WorkerState]:
        return [slot.state for slot in self.worker_table]

    def reconcile(self) -> list[Command]:
        return self.reconciler.reconcile(self.now)

    def resize(self, workers: int) -> list[Command]:
        return self.reconciler.resize(workers, self.now)

    def ready(self, *indices: int) -> list[Command]:
        commands: list[Command] = []
        for index in indices:
            self.worker_table.apply(self.worker_table[index], E.READY)
            commands += self.reconciler.on_worker_ready(self.worker_table[index], self.now)
        return commands

    def opened(self) -> Firm:
        """All are ready, one start after the other where it must be."""
        self.reconcile()
        while waiting := [slot.index for slot in self.worker_table if slot.state is S.STARTING and slot.outbox_id is not None]:
            self.ready(*waiting)
        return self

    def work(self, index: int = 0) -> list[Command]:
        """The slot's worker is sent a task."""
        slot = self.worker_table[index]
        slot.tasks += 1
        self.worker_table.apply(slot, E.DISPATCHED)
        return self.reconciler.replace_spent(self.now) if slot.spent else []

    def answer(self, index: int = 0, private_bytes: int = 0) -> list[Command]:
        slot = self.worker_table[index]
        self.worker_table.apply(slot, E.TASK_FINISHED, slot.expires_at)
        return self.reconcile() if self.reconciler.on_task_answered(slot, private_bytes, self.now) else []

    def die(self, index: int = 0, exit_code: int = 1, *, crashed: bool = True, accepted: bool = True) -> list[Command]:
        """The slot's process is dead, and waitid says so."""
        slot = self.worker_table[index]
        if slot.state is not S.RETIRING:
            self.worker_table.apply(slot, E.DISCONNECTED)
        report = build_crash_report(slot, WorkerExited(index, exit_code, stderr_tail="last line"), self.now)
        return self.reconciler.replace(slot, self.now, report, E.EXITED, crashed=crashed, accepted=accepted)

    def fail_to_start(self, index: int = 0) -> tuple[float, list[Command]]:
        """Start it as soon as it may, let it die at once; how long until the next start, and the commands."""
        slot = self.worker_table[index]
        if slot.outbox_id is None:
            self.now = max(self.now, slot.timer or 0.0)
            self.reconcile()
        commands = self.die(index)
        assert slot.timer is not None
        return slot.timer - self.now, commands

    def news(self, kind: type[Any]) -> list[Any]:
        return [entry for entry in self.worker_table.event_log.drain() if isinstance(entry, kind)]
