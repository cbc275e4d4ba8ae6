"""The worker slots: each one's life, its present process and task, and the one timer that its state asks for.

There may be more ready workers than tasks at once (`limit`): spares, and replacements that wait for the one they replace. None
of them is marked as such. Whoever is idle may take a task as long as fewer than `limit` are at work, so when a worker
dies, the next task goes to another one in the same turn. Only helpers are marked, which have small tasks beside large ones:
their processes get more of a CPU than the others, so any other task goes to them last.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from ...pool_events import WorkerMoved
from ..model.task import TaskRecord
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent, WorkerState, WorkerStateMachine
from ..telemetry.event_log import EventLog

__all__ = ["READY_STATES", "TIMER_EVENTS", "WorkerTable"]

READY_STATES = (WorkerState.IDLE, WorkerState.BUSY, WorkerState.TIMED_OUT)

TIMER_EVENTS = {
    WorkerState.STARTING: WorkerEvent.START_EXPIRED,
    WorkerState.RESTARTING: WorkerEvent.START_EXPIRED,
    WorkerState.BUSY: WorkerEvent.DEADLINE_EXPIRED,
    WorkerState.TIMED_OUT: WorkerEvent.GRACE_EXPIRED,
    WorkerState.RETIRING: WorkerEvent.GRACE_EXPIRED,
    WorkerState.FAILED: WorkerEvent.ABANDONED,
    WorkerState.TERMINATING: WorkerEvent.ABANDONED,
}
"""What a timer means is what the state says: a slot never needs two. An idle worker's says that it has grown old, which is no
event of the table; that of an empty slot, when to start."""

_BUSY_STATES = frozenset((WorkerState.BUSY, WorkerState.TIMED_OUT))
_IDLE = WorkerState.IDLE  # a member that is looked up on its class costs 0.1 us on Python 3.11, and a task has dozens


class WorkerTable:
    """All slots of a pool."""

    def __init__(self, limit: int, event_log: EventLog | None = None) -> None:
        self.concurrency_limit = limit  # tasks at once
        self.event_log = EventLog() if event_log is None else event_log
        self.next_timer = inf  # no timer runs out before; timers that were taken back may leave it too early
        self.half_open_slot: int | None = None  # the slot whose worker has the next task, so that it can pass or fail
        self.slots: dict[int, WorkerSlot] = {}  # by index
        self.helpers = 0  # that are wanted
        self._idle: list[WorkerSlot] = []  # first helpers, then those that never worked, last the one with the warmest caches
        self._busy = 0
        self.min_idle = 0  # how few were idle at a time, since it was last counted anew
        self._outbox_id = 0

    def __iter__(self) -> Iterator[WorkerSlot]:
        return iter(tuple(self.slots.values()))

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, index: int) -> WorkerSlot:
        return self.slots[index]

    def add(self, *, helper: bool = False) -> WorkerSlot:
        """A new place, under the lowest number that is free."""
        index = next(n for n in range(len(self.slots) + 1) if n not in self.slots)
        slot = self.slots[index] = WorkerSlot(index, WorkerStateMachine(), helper)
        return slot

    def remove(self, slot: WorkerSlot) -> None:
        """A place that is gone is forgotten."""
        del self.slots[slot.index]

    def new_outbox_id(self) -> int:
        """A number for an incarnation's outbox, never used twice."""
        self._outbox_id += 1
        return self._outbox_id

    def apply(self, slot: WorkerSlot, event: WorkerEvent, timer: float | None = None, *, cause: str = "") -> WorkerState:
        """Follow the table, and let the new state's timer run."""
        life = slot.state_machine
        before, state = life.state, life.apply(event)
        slot.timer = timer
        if timer is not None and timer < self.next_timer:
            self.next_timer = timer
        if before is _IDLE:
            self._idle.remove(slot)
            if len(self._idle) < self.min_idle:  # noqa: PLR1730 (min() takes longer, and a task comes here twice)
                self.min_idle = len(self._idle)
        elif before in _BUSY_STATES:
            self._busy -= 1
        if state is _IDLE:
            if slot.tasks and not slot.helper:
                self._idle.append(slot)
            else:
                self._insert_idle(slot)
        elif state in _BUSY_STATES:
            self._busy += 1
        if self.event_log.has_subscribers:
            self._log_transition(slot, before, event, cause)
        return state

    def _insert_idle(self, slot: WorkerSlot) -> None:
        """A helper comes first, and a worker that has had no task next, so that spares stay fresh."""
        others = (n for n, other in enumerate(self._idle) if not other.helper)
        self._idle.insert(0 if slot.helper else next(others, len(self._idle)), slot)

    def set_timer(self, slot: WorkerSlot, timer: float | None) -> None:
        """Let a slot's timer run until then, or stop it."""
        slot.timer = timer
        if timer is not None and timer < self.next_timer:
            self.next_timer = timer

    def find_idle(self, outbox_id: int | None = None, *, unused: bool | None = None) -> WorkerSlot | None:
        """A worker that may take a task now; only that outbox's, or only one that has had no task yet, or has, if so asked."""
        if self._busy >= self.concurrency_limit or not self._idle:
            return None
        if outbox_id is not None:
            return next((slot for slot in self._idle if slot.outbox_id == outbox_id), None)
        if unused is not None:
            return next((slot for slot in reversed(self._idle) if slot.unused is unused), None)
        if self.half_open_slot is not None:
            return next((slot for slot in self._idle if slot.index == self.half_open_slot), self._idle[-1])
        return self._idle[-1]

    def find_overcommit_worker(self) -> WorkerSlot | None:
        """An idle worker, best a helper, though as many are at work as may be; one more than that, or as many as help."""
        if not self._idle or self._busy >= self.concurrency_limit + max(min(self.helpers, self.concurrency_limit), 1):
            return None
        return self._idle[0] if self._idle[0].helper else self._idle[-1]

    @property
    def busy(self) -> int:
        """How many workers have a task."""
        return self._busy

    @property
    def busy_tasks(self) -> list[TaskRecord]:
        """What they have."""
        return [slot.task for slot in self.slots.values() if slot.task is not None and slot.state in _BUSY_STATES]

    @property
    def at_limit(self) -> bool:
        """Whether as many are at work as may be, and that is anybody."""
        return self._busy >= self.concurrency_limit > 0

    def reset_min_idle(self) -> None:
        """From now on `least_idle` is of the time that comes."""
        self.min_idle = len(self._idle)

    def find_with_task(self, task: TaskRecord) -> WorkerSlot | None:
        """The slot whose worker has the task."""
        return next((slot for slot in self.slots.values() if slot.task is task), None)

    @property
    def idle(self) -> int:
        """How many more tasks could begin at once."""
        return max(min(len(self._idle), self.concurrency_limit - self._busy), 0)

    @property
    def idle_unused(self) -> int:
        """How many that have nothing to do have had no task yet."""
        return sum(slot.unused for slot in self._idle)

    @property
    def idle_processes(self) -> int:
        """How many workers have nothing to do, whether or not they may work."""
        return len(self._idle)

    @property
    def running(self) -> int:
        """How many slots hold a task."""
        return sum(slot.task is not None for slot in self.slots.values())

    def count(self, *states: WorkerState) -> int:
        """How many slots are in one of these states."""
        return sum(slot.state in states for slot in self.slots.values())

    def due(self, now: float) -> list[WorkerSlot]:
        """The slots whose timer has run out."""
        timers = [(slot.timer, slot) for slot in self.slots.values() if slot.timer is not None]
        self.next_timer = min((timer for timer, _ in timers if timer > now), default=inf)
        return [slot for timer, slot in timers if timer <= now]

    def _log_transition(self, slot: WorkerSlot, before: WorkerState, event: WorkerEvent, cause: str) -> None:
        self.event_log.append_if_watched(
            WorkerMoved(
                at=self.event_log.now,
                slot=slot.index,
                pid=slot.pid,
                before=before.value,
                event=event.value,
                after=slot.state.value,
                cause=cause,
                task_id=None if slot.task is None else slot.task.task_id,
            )
        )
