"""Admission control: decides whether a task may enter the queue.

A task is refused if it can never fit into memory, if it would start too late or run too long, if the queue is full, or if its
sources have killed workers. Each check runs as soon as its inputs are known.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ...errors import MemoryLimitExceeded, PluginError, QueueFull, QueueTimeout, TaskTimeout
from ...wire.handles import EncodedAt
from ..model.commands import Command, RestageSource
from ..model.settings import CoreSettings
from ..model.task import TaskSpec
from ..model.task_record import TaskRecord
from ..model.task_state import TaskEvent, TaskState
from ..scheduling.dispatcher import Dispatcher
from ..scheduling.lane import Lane
from ..workers.worker_group import WorkerGroups
from .quarantine import Quarantine
from .source_hashing import SourceHashing
from .task_table import TaskTable

__all__ = ["Admission"]

_Refusal = QueueFull | QueueTimeout | MemoryLimitExceeded | TaskTimeout

_ESTIMATING: Final = TaskState.ESTIMATING  # a member that is looked up on its class costs 0.1 us on Python 3.11
_MAX_TIMEOUT_RATIO = 2.0  # a task is refused if its expected time is more than this many limits; estimates are off by less
_TRIAL_EVERY_S = 1.0  # seconds between tasks that are admitted although they seem too long, to check the estimate


class Admission:
    """Queues or refuses tasks; requests the digest of sources that may be quarantined."""

    def __init__(
        self,
        settings: CoreSettings,
        task_table: TaskTable,
        quarantine: Quarantine,
        source_hashing: SourceHashing,
        dispatcher: Dispatcher,
        groups: WorkerGroups,
    ) -> None:
        self._settings = settings
        self._queue, self._budget = dispatcher.queue, dispatcher.budget
        self._task_table = task_table
        self._quarantine = quarantine
        self._source_hashing = source_hashing
        self._dispatcher = dispatcher
        self._groups = groups
        self._next_trial_at = 0.0

    def submitted(self, task: TaskRecord, nbytes: int) -> QueueFull | PluginError | None:
        """Return the error for a new task that is refused at once, or None. `nbytes`: of its sources; 0: not known yet."""
        settings, lane = self._settings, self._queue.lanes[task.spec.group]
        task.arrived_s = lane.policy.work_clock_s
        loads = self._groups.by_name[task.spec.group].plugin_loads
        if loads.switched_off and (switched_off := loads.refusal(task.spec)) is not None:
            return switched_off
        if settings.max_queue is None and settings.max_queue_bytes is None:
            return None
        others_preparing = self._task_table.counts.preparing - 1
        waiting = len(self._queue) + others_preparing - self._free_workers(lane)
        if settings.max_queue is not None and waiting >= settings.max_queue:
            return QueueFull(max(waiting, 0), settings.max_queue)
        return self._too_many_bytes(task, nbytes)

    def estimated(self, task: TaskRecord, spec: TaskSpec, nbytes: int, now: float) -> list[Command]:
        """Handle the estimate of a task whose sources are not staged yet."""
        task.spec, task.nbytes = spec, nbytes
        task.apply(TaskEvent.ESTIMATED)
        self._estimate(task)
        refusal = self._refusal(task, now)
        return [] if refusal is None else self._task_table.settle(task, refusal)

    def enter(self, task: TaskRecord, now: float) -> list[Command]:
        """Handle a task whose sources are in place. Sources in an outbox are not hashed: they are results of finished tasks."""
        spec, loads = task.spec, self._groups.by_name[task.spec.group].plugin_loads
        if loads.switched_off and (switched_off := loads.refusal(spec)) is not None:
            return self._task_table.settle(task, switched_off)
        if task.state is _ESTIMATING:
            task.nbytes = task.source_nbytes
            self._estimate(task)
            refusal = self._refusal(task, now)
            if refusal is not None:
                return self._task_table.settle(task, refusal)
        if spec.outbox_id is not None:
            return self._dispatcher.submit_in_place(task, now) or [self._copy_sources(task)]
        if not (self._quarantine.records and self._quarantine.suspects(spec, now)):
            return self._dispatcher.submit(task, now)
        if not task.source_nbytes:
            return self.source_hashed(task, b"", now)
        task.apply(TaskEvent.HASH_REQUESTED)
        return [self._source_hashing.begin(task)]

    def _copy_sources(self, task: TaskRecord) -> RestageSource:
        """Copy sources in an outbox, whose worker is not free, into the inbox, where any worker can read them."""
        self._task_table.release_sources(task)
        task.spec = msgspec.structs.replace(task.spec, sources=(EncodedAt(None),), outbox_id=None)
        self._set_copy(task)
        task.apply(TaskEvent.SOURCE_RELEASED)
        return RestageSource(task.task_id)

    def source_hashed(self, task: TaskRecord, digest: bytes | None, now: float) -> list[Command]:
        """Queue a suspect task unless its digest is quarantined. None: a source could not be read."""
        task.digest = digest
        switched_off = self._groups.by_name[task.spec.group].plugin_loads.refusal(task.spec)
        if switched_off is not None:
            return self._task_table.settle(task, switched_off)
        quarantined = None if digest is None else self._quarantine.refusal(task.spec, digest, now)
        if quarantined is not None:
            return self._task_table.settle(task, quarantined)
        return self._dispatcher.submit(task, now)

    def _free_workers(self, lane: Lane) -> int:
        """Number of idle workers; for a group on demand without workers, of those that would be started for tasks."""
        group = self._groups.by_name[lane.name]
        return lane.workers.idle if lane.workers or not group.settings.is_on_demand else lane.workers.concurrency_limit

    def _estimate(self, task: TaskRecord) -> None:
        """Predict the cost of the task, and advance the work clock by it."""
        self._dispatcher.cost_model.predict(task)
        self._set_copy(task)
        lane = self._queue.lanes[task.spec.group]
        lane.policy.work_clock_s += task.cost_s / max(lane.workers.concurrency_limit, 1)

    def _set_copy(self, task: TaskRecord) -> None:
        """Set how much memory the copy of a task's sources takes in its worker's own inbox."""
        if task.nbytes and task.spec.outbox_id is None and self._groups.by_name[task.spec.group].settings.private_sources:
            task.copy_bytes = task.nbytes

    def _refusal(self, task: TaskRecord, now: float) -> _Refusal | None:
        """Return the error for a task that is refused because of its estimate, or None."""
        spec = task.spec
        if spec.estimate is not None and (too_large := self._budget.refusal(task)):
            return too_large
        if task.nbytes and (too_many := self._too_many_bytes(task, task.nbytes)):
            return too_many
        if spec.queue_timeout_s is not None and (too_late := self._too_late(task, spec.queue_timeout_s, now)):
            return too_late
        if spec.timeout_s is not None and task.stable_cost_s > spec.timeout_s * _MAX_TIMEOUT_RATIO:
            return self._too_long(task, spec.timeout_s, now)
        return None

    def _too_many_bytes(self, task: TaskRecord, nbytes: int) -> QueueFull | None:
        limit, others = self._settings.max_queue_bytes, self._queue.nbytes - task.queued_bytes
        if limit is not None and nbytes and others + nbytes > limit and not self._free_workers(self._queue.lane_of(task)):
            return QueueFull(others, limit, unit="bytes", asked_bytes=nbytes)
        self._queue.count_source(task, nbytes)
        return None

    def _too_late(self, task: TaskRecord, limit_s: float, now: float) -> QueueTimeout | None:
        """Return the error for a task that is refused because of its queue timeout, or None.

        The timeout passed before the sources were staged, or the expected wait, without later tasks, is far longer.
        """
        if 0 < limit_s < now - task.submitted_at:  # a limit of 0 means: only if a worker is idle when the sources are staged
            return QueueTimeout(limit_s, "memory")
        lane = self._queue.lane_of(task)
        if lane.workers.idle:
            return None
        expected_s = lane.policy.ahead_s(task) / max(lane.workers.concurrency_limit, 1)
        return QueueTimeout(limit_s, "a worker", expected_s=expected_s) if expected_s > limit_s * _MAX_TIMEOUT_RATIO else None

    def _too_long(self, task: TaskRecord, limit_s: float, now: float) -> TaskTimeout | None:
        """Return the error for a task that is expected to run far longer than its timeout, or None.

        The plugin's estimate must say so too, because observed tasks of the same kind may be of another size.
        """
        estimate = task.spec.estimate
        estimated_s = task.stable_cost_s if estimate is None or not estimate.work_s else estimate.work_s
        if estimated_s <= limit_s * _MAX_TIMEOUT_RATIO or not self._dispatcher.cost_model.has_observed(task):
            return None
        if now >= self._next_trial_at:
            self._next_trial_at = now + _TRIAL_EVERY_S
            return None
        return TaskTimeout(limit_s, expected_s=task.stable_cost_s)
