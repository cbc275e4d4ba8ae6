"""Slots of one worker group: the idle workers, the number of busy ones, and the number of tasks that may run at once.

There may be more ready workers than tasks that run at once (`concurrency_limit`), because of spares and of replacements that
wait for the worker that they replace. They are not marked: any idle worker may get a task while fewer than `concurrency_limit`
are busy. So when a worker dies, another one gets the next task in the same event.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from ...operation import DEFAULT_GROUP
from ..model.task_record import TaskRecord
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerState

__all__ = ["BUSY_STATES", "READY_STATES", "GroupSlots"]

READY_STATES = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.TIMED_OUT)
BUSY_STATES = frozenset((WorkerState.BUSY, WorkerState.TIMED_OUT))
_IDLE: Final = WorkerState.IDLE  # a member that is looked up on its class costs 0.1 us on Python 3.11


class GroupSlots:
    """The slots of one worker group. `WorkerTable` adds and removes them, and reports every change of a state."""

    def __init__(self, limit: int, name: str = DEFAULT_GROUP, *, isolates_tenants: bool = False) -> None:
        self.name = name
        self.isolates_tenants = isolates_tenants  # whether a worker that has served a tenant serves no other
        self.concurrency_limit = limit  # tasks at once
        self.half_open_slot: int | None = None  # slot of the worker that gets the next task, to close or open the breaker
        self.slots: dict[int, WorkerSlot] = {}  # by index
        self.busy = 0  # number of busy workers
        self.sent = 0  # number of tasks that they have behind those that they run
        self.min_idle = 0  # minimum number of idle workers since the last scale-down check
        self.idle_workers: list[WorkerSlot] = []
        """Unused workers, then used ones, the last used (warmest caches) last. Read only."""

    def __iter__(self) -> Iterator[WorkerSlot]:
        return iter(tuple(self.slots.values()))

    def __len__(self) -> int:
        return len(self.slots)

    def move(self, slot: WorkerSlot, before: WorkerState, after: WorkerState) -> None:
        """A slot went from one state to another: update the idle workers and the number of busy ones."""
        if before is _IDLE:
            self.idle_workers.remove(slot)
            if len(self.idle_workers) < self.min_idle:  # noqa: PLR1730 (min() is slower, and this runs twice for each task)
                self.min_idle = len(self.idle_workers)
        elif before in BUSY_STATES:
            self.busy -= 1
        if after is _IDLE:
            if slot.tasks:
                self.idle_workers.append(slot)
            else:
                self.idle_workers.insert(0, slot)  # so that spares stay unused
        elif after in BUSY_STATES:
            self.busy += 1

    def find_idle(self, outbox_id: int | None = None, *, unused: bool | None = None) -> WorkerSlot | None:
        """An idle worker that may get a task within the concurrency limit; None if there is none.

        Args:
            outbox_id: only the worker of this outbox.
            unused: only a worker that has had no task yet (True), or that has had one (False).
        """
        if self.busy >= self.concurrency_limit or not self.idle_workers:
            return None
        if outbox_id is not None:
            return next((slot for slot in self.idle_workers if slot.outbox_id == outbox_id), None)
        if unused is not None:
            return next((slot for slot in reversed(self.idle_workers) if slot.unused is unused), None)
        if self.half_open_slot is not None:
            return next((slot for slot in self.idle_workers if slot.index == self.half_open_slot), self.idle_workers[-1])
        return self.idle_workers[-1]

    def find_idle_for(self, tenant: str | None) -> WorkerSlot | None:
        """An idle worker within the concurrency limit that has served this tenant only; else an unused one; None if there is
        none. For a group that isolates tenants."""
        if self.find_idle() is None:
            return None
        own = (slot for slot in reversed(self.idle_workers) if slot.tasks and slot.tenant == (tenant or ""))
        return next(own, None) or next((slot for slot in reversed(self.idle_workers) if slot.unused), None)

    def lacks_worker_for(self, tenant: str | None, waiting: Collection[str]) -> bool:
        """Whether a worker should be replaced, so that a task of this tenant can run.

        That is so if no worker can ever run it; or if an idle worker has served a tenant that has no waiting task.

        Args:
            tenant: the tenant of a waiting task.
            waiting: the tenants that have waiting tasks; "": tasks without a tenant.
        """
        if self.find_idle_for(tenant) is not None:
            return False
        staying = [slot for slot in self.slots.values() if slot.recycling is None and slot.state in READY_STATES]
        if not any(slot.unused or slot.tenant == (tenant or "") for slot in staying):
            return True
        return any(slot.state is _IDLE and slot.tenant not in waiting for slot in staying)

    @property
    def busy_tasks(self) -> list[TaskRecord]:
        """The tasks of busy workers."""
        return [task for slot in self.slots.values() if (task := slot.assigned) is not None and slot.state in BUSY_STATES]

    @property
    def at_limit(self) -> bool:
        """Whether as many workers are busy as the concurrency limit allows; False if the limit is 0."""
        return self.busy >= self.concurrency_limit > 0

    def reset_min_idle(self) -> None:
        """Begin a new minimum of idle workers."""
        self.min_idle = len(self.idle_workers)

    @property
    def idle(self) -> int:
        """Number of tasks that could start now."""
        return max(min(len(self.idle_workers), self.concurrency_limit - self.busy), 0)

    @property
    def idle_unused(self) -> int:
        """Number of idle workers that have had no task yet."""
        return sum(slot.unused for slot in self.idle_workers)

    def count(self, *states: WorkerState) -> int:
        """Number of slots in one of these states."""
        return sum(slot.state in states for slot in self.slots.values())
