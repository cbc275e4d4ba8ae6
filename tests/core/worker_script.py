"""`WorkerScript`: the workers of a pool without tasks. A test says when they become ready, work and die."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from offloop.core.memory.arena import Arena
from offloop.core.model.commands import Command
from offloop.core.model.events import WorkerExited
from offloop.core.model.settings import CoreSettings, GroupSettings
from offloop.core.model.worker_slot import WorkerSlot
from offloop.core.model.worker_state import WorkerEvent, WorkerState
from offloop.core.tasks.crash_report import build_crash_report
from offloop.core.workers.autoscaler import Autoscaler
from offloop.core.workers.reconciler import WorkerReconciler
from offloop.core.workers.recycling import Recycling
from offloop.core.workers.worker_group import WorkerGroup, WorkerGroups, slots_of_groups
from offloop.core.workers.worker_table import WorkerTable
from offloop.operation import DEFAULT_GROUP
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Done

E, S = WorkerEvent, WorkerState


class WorkerScript:
    """The worker groups of a pool. Most methods are about the default group."""

    def __init__(self, workers: int = 1, *, groups: Sequence[GroupSettings] = (), **more: Any) -> None:
        of_group = {name: more.pop(name) for name in GroupSettings.__struct_fields__ if name in more}
        settings = CoreSettings(
            groups=(GroupSettings(workers=workers, **of_group), *groups),
            limit_bytes=1_000_000,
            inbox_nbytes=500_000,
            max_queue=None,
            grace_s=1.0,
            start_timeout_s=10.0,
            **more,
        )
        self.now = 0.0
        self.worker_table = WorkerTable(slots_of_groups(settings))
        self.arena = Arena(1_000_000, 500_000)
        self.groups = WorkerGroups(self.worker_table, self.arena, settings)

    @property
    def default(self) -> WorkerGroup:
        return self.groups.default

    @property
    def autoscaler(self) -> Autoscaler:
        return self.default.autoscaler

    @property
    def recycling(self) -> Recycling:
        return self.default.recycling

    @property
    def reconciler(self) -> WorkerReconciler:
        return self.default.reconciler

    @property
    def slot(self) -> WorkerSlot:
        return self.worker_table[0]

    @property
    def states(self) -> list[WorkerState]:
        return [slot.state for slot in self.worker_table]

    def reconcile(self) -> list[Command]:
        return self.groups.reconcile(self.now)

    def resize(self, workers: int, group: str = DEFAULT_GROUP) -> list[Command]:
        return self.groups.resize(group, workers, self.now)

    def scale_up_for(self, waiting: int, group: str = DEFAULT_GROUP) -> list[Command]:
        """So many tasks wait."""
        return self.reconcile() if self.groups.by_name[group].autoscaler.scale_up_for(waiting, self.now) else []

    def ready(self, *indices: int) -> list[Command]:
        """The workers of these slots become ready."""
        commands: list[Command] = []
        for index in indices:
            slot = self.worker_table[index]
            self.worker_table.apply(slot, E.LOADING_BEGUN, self.now)
            self.worker_table.apply(slot, E.READY, self.now)
            self.groups.by_name[slot.group].recycling.on_worker_ready(slot, self.now)
            commands += self.groups.on_worker_ready(slot, self.now)
        return commands

    def opened(self) -> WorkerScript:
        """All workers are ready, started in turn where `max_starts` requires it."""
        self.reconcile()
        while starting := [slot.index for slot in self.worker_table if slot.state is S.STARTING and slot.outbox_id is not None]:
            self.ready(*starting)
        return self

    def work(self, index: int = 0) -> list[Command]:
        """The slot's worker is sent a task."""
        slot = self.worker_table[index]
        slot.tasks += 1
        self.worker_table.apply(slot, E.DISPATCHED, self.now)
        if not slot.spent:
            return []
        self.groups.by_name[slot.group].recycling.mark_spent()
        return self.reconcile()

    def answer(self, index: int = 0, private_bytes: int = 0) -> list[Command]:
        """The slot's worker answers for its task."""
        slot = self.worker_table[index]
        self.worker_table.apply(slot, E.TASK_FINISHED, self.now, slot.expires_at)
        group = self.groups.by_name[slot.group]
        group.recycling.on_task_answered(slot, Done(1, EncodedAt(None), {}, 0, 0, private_bytes), self.now)
        return self.reconcile() if group.reconciler.on_task_answered(slot) else []

    def die(self, index: int = 0, exit_code: int = 1, *, crashed: bool = True, accepted: bool = True) -> list[Command]:
        """The slot's process exits."""
        slot = self.worker_table[index]
        if slot.state is not S.RETIRING:
            self.worker_table.apply(slot, E.DISCONNECTED, self.now)
        report = build_crash_report(slot, WorkerExited(index, exit_code, stderr_tail="last line"), self.now)
        return self.groups.replace(slot, self.now, report, E.EXITED, crashed=crashed, accepted=accepted)

    def fail_to_start(self, index: int = 0) -> tuple[float, list[Command]]:
        """Start the slot's worker as soon as allowed, and let it die at once. Returns the next pause in seconds and the
        commands."""
        slot = self.worker_table[index]
        if slot.outbox_id is None:
            self.now = max(self.now, slot.timer or 0.0)
            self.reconcile()
        commands = self.die(index)
        assert slot.timer is not None
        return slot.timer - self.now, commands

    def logged(self, kind: type[Any]) -> list[Any]:
        """Events of one type that were logged since the last call."""
        return [entry for entry in self.worker_table.event_log.drain() if isinstance(entry, kind)]
