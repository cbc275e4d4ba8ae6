"""Recycling: which worker must be replaced although it works, and why.

A worker is recycled because of its number of tasks, its age, its private memory, the failures of its tasks, or because a task
needs an unused worker. Its slot is marked with the reason. `WorkerReconciler` starts the replacement at once. A spent worker
(with as many tasks as it may have) leaves after its task; any other worker goes on until the replacement is ready.
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf

from ...pool_events import WorkerMemoryTooSmall
from ...wire.messages import Done, Failed
from ..memory.budget import DEFAULT_WORKER_NBYTES, MIN_TASKS_NBYTES
from ..model.settings import AdmissionMode, CoreSettings, GroupSettings
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerState
from .failure_streaks import FailureStreaks
from .group_slots import READY_STATES, GroupSlots
from .jitter import Jitter
from .worker_table import WorkerTable

__all__ = ["Recycling"]

_MAX_TASKS_FOR_WARNING = 2  # a worker reports with its second task how much private memory the first one left

_COMING_STATES = (WorkerState.STARTING, WorkerState.LOADING, WorkerState.RESTARTING, WorkerState.FAILED)


class Recycling:
    """Sets the limits of each worker of a group, and marks workers that exceed them."""

    def __init__(
        self,
        worker_table: WorkerTable,
        group_slots: GroupSlots,
        jitter: Jitter,
        settings: CoreSettings,
        group_settings: GroupSettings,
    ) -> None:
        self._worker_table = worker_table
        self._group_slots = group_slots
        self._jitter = jitter
        self._settings = settings
        self._group_settings = group_settings
        self._failure_streaks = FailureStreaks()
        self._has_warned_about_memory = False

    def on_worker_ready(self, slot: WorkerSlot, now: float) -> None:
        """Set the limits of a worker that has become ready, with jitter, so that workers are not all replaced at once."""
        settings = self._group_settings
        if settings.isolation == "task":
            slot.max_tasks = 1.0
        elif settings.max_tasks_per_worker is not None:
            slot.max_tasks = float(max(round(self._jitter.below(settings.max_tasks_per_worker)), 1))
        if settings.max_worker_bytes is not None:
            slot.max_bytes = self._jitter.below(settings.max_worker_bytes)
        slot.max_bytes = min(slot.max_bytes, self._share_bytes)
        if settings.max_worker_age_s is not None:
            slot.expires_at = now + self._jitter.around(settings.max_worker_age_s)
            self._worker_table.set_timer(slot, slot.expires_at)

    def on_task_answered(self, slot: WorkerSlot, answer: Done | Failed, now: float) -> None:
        """A worker has answered for its task: mark it if that shows a reason to replace it."""
        if isinstance(answer, Failed) or answer.recycle or slot.failures or self._failure_streaks.has_replaced:
            reason = self._failure_streaks.on_task_answered(slot, answer)
            if reason is not None:
                slot.max_tasks = float(slot.tasks)  # because it must not have another task
                self._mark(slot, reason)
        if answer.private_bytes > slot.max_bytes:
            self._mark(
                slot,
                f"it has {answer.private_bytes:,} bytes of private memory, and {slot.max_bytes:,.0f} are its share",
            )
            self._warn_about_memory(slot, answer.private_bytes, now)
        elif slot.expires_at is not None and slot.expires_at <= now:
            self.mark_expired(slot, now)

    def mark_spent(self) -> None:
        """Mark the workers that were sent their last task."""
        for slot in self._group_slots:
            if slot.spent:
                self._mark(slot, f"it was given {slot.tasks} tasks")

    def mark_expired(self, slot: WorkerSlot, now: float) -> None:
        """Mark a worker that has reached its maximum age."""
        assert slot.ready_since is not None
        self._mark(slot, f"it is {now - slot.ready_since:.0f} s old")

    def mark_for_unused_worker(self, waiting: Collection[str] = ()) -> None:
        """Mark a worker because a task needs an unused one; an idle worker if there is one.

        No worker is marked while an unused one is starting or ready.

        Args:
            waiting: tenants whose workers are marked last, because they have waiting tasks.
        """
        if any(slot.state in _COMING_STATES or (slot.unused and slot.state in READY_STATES) for slot in self._group_slots):
            return
        candidates = [slot for slot in self._group_slots if slot.recycling is None and slot.state in READY_STATES]
        # busy ones, too, because a full pool is never idle
        candidates.sort(key=lambda slot: (slot.state is not WorkerState.IDLE, slot.tenant in waiting))
        for slot in candidates[:1]:
            self._mark(slot, "a task wants a worker that has had none")

    def _mark(self, slot: WorkerSlot, reason: str) -> None:
        slot.recycling = slot.recycling or reason
        slot.expires_at = None
        if slot.state is WorkerState.IDLE:
            self._worker_table.set_timer(slot, None)

    @property
    def _share_bytes(self) -> float:
        """Private memory that a worker may keep between two tasks, in bytes. If all workers kept more, no task would fit."""
        settings = self._settings
        if settings.budget_bytes is None or settings.admission is not AdmissionMode.ENFORCE:
            return inf
        workers = max(self._worker_table.planned_workers, 1)
        return max((settings.budget_bytes - MIN_TASKS_NBYTES) // workers, DEFAULT_WORKER_NBYTES)

    def _warn_about_memory(self, slot: WorkerSlot, private_bytes: int, now: float) -> None:
        """Report once that a worker exceeds its share as soon as its plugins are loaded."""
        if self._has_warned_about_memory or slot.tasks > _MAX_TASKS_FOR_WARNING:
            return
        self._has_warned_about_memory = True
        configured, share = self._group_settings.max_worker_bytes, self._share_bytes
        by_setting = configured is not None and configured <= share
        limit, limited_by = (configured, "max_worker_memory") if by_setting else (share, "a worker's share of memory_limit")
        report = WorkerMemoryTooSmall(
            at=now,
            slot=slot.index,
            group=slot.group,
            private_bytes=private_bytes,
            limit_bytes=int(limit or 0),
            limited_by=limited_by,
        )
        self._worker_table.event_log.append(report)
