"""Components of a pool's state, and their connections."""

from __future__ import annotations

from .memory.arena import Arena
from .memory.broker import MemoryBroker
from .memory.budget import Budget
from .model.pool_phase import PoolPhase
from .model.settings import CoreSettings
from .model.task_record import TaskRecord
from .scheduling.deliveries import Deliveries
from .scheduling.dispatcher import Dispatcher
from .scheduling.lane import Lane
from .scheduling.small_tasks import SmallTasks
from .scheduling.task_queue import TaskQueue
from .tasks.admission import Admission
from .tasks.completion import TaskCompletion
from .tasks.crash_recovery import CrashRecovery
from .tasks.quarantine import Quarantine
from .tasks.source_hashing import SourceHashing
from .tasks.task_table import TaskTable
from .telemetry.event_log import EventLog
from .workers.abandoned_workers import AbandonedWorkers
from .workers.run_clock import RunClock
from .workers.worker_group import WorkerGroup, WorkerGroups, slots_of_groups
from .workers.worker_table import WorkerTable

__all__ = ["Components"]


class Components:
    """Creates and connects the components of a pool's state."""

    def __init__(self, settings: CoreSettings) -> None:
        self.settings = settings
        self.phase = PoolPhase.OPEN
        self.event_log = EventLog()
        self.arena = Arena(settings.limit_bytes, settings.inbox_nbytes, settings.inbox_addresses_nbytes, settings.bounded_by)
        self.worker_table = WorkerTable(slots_of_groups(settings), self.event_log)
        self.groups = WorkerGroups(self.worker_table, self.arena, settings)
        default, small = self.groups.default, self.groups.small
        self.small_tasks = SmallTasks(default.slots, default.settings.spares, small.slots, small.autoscaler)
        self.queue = self._create_queue()
        workers = settings.groups[0].workers
        self.budget = Budget(self.arena, settings.budget_bytes, settings.admission, workers=workers)
        self.abandoned = AbandonedWorkers(self.arena, self.budget)
        self.broker = MemoryBroker(self.arena, self.budget)
        self.run_clock = RunClock(self.worker_table)
        self.task_table = TaskTable(self.arena, self.broker, self.budget, self.queue, self.event_log)
        self.quarantine = Quarantine(settings.quarantine_after, settings.quarantine_s)
        self.source_hashing = SourceHashing(self.arena)
        self.dispatcher = Dispatcher(
            self.worker_table,
            self.queue,
            self.broker,
            self.budget,
            self.task_table.counts,
            Deliveries(self.arena),
            settings.max_sent_tasks,
        )
        self.admission = Admission(
            settings, self.task_table, self.quarantine, self.source_hashing, self.dispatcher, self.groups
        )
        self.completion = TaskCompletion(self.arena, self.task_table, self.quarantine)
        self.crash_recovery = CrashRecovery(
            self.task_table, self.queue, self.completion, self.quarantine, self.source_hashing, self.event_log
        )

    def _has_small_tasks(self, group: WorkerGroup) -> bool:
        """Whether small tasks of a group may run in the group for them; not if tenants or tasks have workers of their own."""
        return group is self.groups.default and group.settings.isolation == "pool"

    def _create_queue(self) -> TaskQueue:
        """A lane for each worker group, except the one for small tasks, which has no tasks of its own."""
        weights, waiting = self.settings.tenant_weights, dict[int, TaskRecord]()
        groups = [group for group in self.groups if group is not self.groups.small]
        lanes = [
            Lane(group.slots, self.small_tasks if self._has_small_tasks(group) else None, weights, waiting) for group in groups
        ]
        return TaskQueue(lanes, waiting)
