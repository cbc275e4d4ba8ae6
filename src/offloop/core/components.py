"""Components of a pool's state, and their connections."""

from __future__ import annotations

from .memory.arena import Arena
from .memory.broker import MemoryBroker
from .memory.budget import Budget
from .model.pool_phase import PoolPhase
from .model.settings import CoreSettings
from .scheduling.dispatcher import Dispatcher
from .scheduling.task_queue import TaskQueue
from .tasks.admission import Admission
from .tasks.completion import TaskCompletion
from .tasks.crash_recovery import CrashRecovery
from .tasks.quarantine import Quarantine
from .tasks.source_hashing import SourceHashing
from .tasks.task_table import TaskTable
from .telemetry.event_log import EventLog
from .workers.abandoned_workers import AbandonedWorkers
from .workers.autoscaler import Autoscaler
from .workers.jitter import Jitter
from .workers.plugin_loads import PluginLoads
from .workers.reconciler import WorkerReconciler
from .workers.recycling import Recycling
from .workers.run_clock import RunClock
from .workers.worker_table import WorkerTable

__all__ = ["Components"]


class Components:
    """Creates and connects the components of a pool's state."""

    def __init__(self, settings: CoreSettings) -> None:
        self.settings = settings
        self.phase = PoolPhase.OPEN
        self.event_log = EventLog()
        self.arena = Arena(settings.limit_bytes, settings.inbox_nbytes, settings.inbox_addresses_nbytes, settings.bounded_by)
        self.worker_table = WorkerTable(settings.workers, self.event_log)
        self.queue = TaskQueue(settings.tenant_weights)
        self.budget = Budget(self.arena, settings.budget_bytes, settings.admission)
        self.abandoned = AbandonedWorkers(self.arena, self.budget)
        self.broker = MemoryBroker(self.arena, self.budget)
        self.run_clock = RunClock(self.worker_table)
        self.task_table = TaskTable(self.arena, self.broker, self.budget, self.queue, self.event_log)
        jitter = Jitter(settings.seed)
        self.autoscaler = Autoscaler(self.worker_table, settings)
        self.recycling = Recycling(self.worker_table, self.autoscaler, jitter, settings)
        self.plugin_loads = PluginLoads(settings.plugins, self.event_log)
        self.reconciler = WorkerReconciler(self.worker_table, self.autoscaler, self.plugin_loads, jitter, self.arena, settings)
        self.quarantine = Quarantine(settings.quarantine_after, settings.quarantine_s)
        self.source_hashing = SourceHashing(self.arena)
        self.dispatcher = Dispatcher(self.worker_table, self.queue, self.broker, self.budget, self.task_table.counts)
        self.admission = Admission(
            settings, self.task_table, self.quarantine, self.source_hashing, self.dispatcher, self.plugin_loads
        )
        self.completion = TaskCompletion(self.arena, self.task_table, self.quarantine)
        self.crash_recovery = CrashRecovery(
            self.task_table, self.queue, self.completion, self.quarantine, self.source_hashing, self.event_log
        )
