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
from ..model.worker_slot import Slot
from ..model.worker_state import WorkerEvent, WorkerLife, WorkerState
from ..telemetry.event_log import Journal

__all__ = ["TIMER_EVENTS", "Crew"]

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

_AT_WORK = frozenset((WorkerState.BUSY, WorkerState.TIMED_OUT))
_IDLE = WorkerState.IDLE  # a member that is looked up on its class costs 0.1 us on Python 3.11, and a task has dozens


class Crew:
    """All slots of a pool."""

    def __init__(self, limit: int, journal: Journal | None = None) -> None:
        self.limit = limit  # tasks at once
        self.journal = Journal() if journal is None else journal
        self.earliest = inf  # no timer runs out before; timers that were taken back may leave it too early
        self.on_probation: int | None = None  # the slot whose worker has the next task, so that it can pass or fail
        self.slots: dict[int, Slot] = {}  # by index
        self.helpers = 0  # that are wanted
        self._idle: list[Slot] = []  # first helpers, then those that never worked, last the one with the warmest caches
        self._at_work = 0
        self.least_idle = 0  # how few were idle at a time, since it was last counted anew
        self._outbox_id = 0

    def __iter__(self) -> Iterator[Slot]:
        return iter(tuple(self.slots.values()))

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, index: int) -> Slot:
        return self.slots[index]

    def add(self, *, helper: bool = False) -> Slot:
        """A new place, under the lowest number that is free."""
        index = next(n for n in range(len(self.slots) + 1) if n not in self.slots)
        slot = self.slots[index] = Slot(index, WorkerLife(), helper)
        return slot

    def remove(self, slot: Slot) -> None:
        """A place that is gone is forgotten."""
        del self.slots[slot.index]

    def new_outbox_id(self) -> int:
        """A number for an incarnation's outbox, never used twice."""
        self._outbox_id += 1
        return self._outbox_id

    def apply(self, slot: Slot, event: WorkerEvent, timer: float | None = None, *, cause: str = "") -> WorkerState:
        """Follow the table, and let the new state's timer run."""
        life = slot.life
        before, state = life.state, life.apply(event)
        slot.timer = timer
        if timer is not None and timer < self.earliest:
            self.earliest = timer
        if before is _IDLE:
            self._idle.remove(slot)
            if len(self._idle) < self.least_idle:  # noqa: PLR1730 (min() takes longer, and a task comes here twice)
                self.least_idle = len(self._idle)
        elif before in _AT_WORK:
            self._at_work -= 1
        if state is _IDLE:
            if slot.tasks and not slot.helper:
                self._idle.append(slot)
            else:
                self._enter_idle(slot)
        elif state in _AT_WORK:
            self._at_work += 1
        if self.journal.watched:
            self._write_down(slot, before, event, cause)
        return state

    def _enter_idle(self, slot: Slot) -> None:
        """A helper comes first, and a worker that has had no task next, so that spares stay fresh."""
        others = (n for n, other in enumerate(self._idle) if not other.helper)
        self._idle.insert(0 if slot.helper else next(others, len(self._idle)), slot)

    def set_timer(self, slot: Slot, timer: float | None) -> None:
        """Let a slot's timer run until then, or stop it."""
        slot.timer = timer
        if timer is not None and timer < self.earliest:
            self.earliest = timer

    def maybe_idle(self, outbox_id: int | None = None, *, fresh: bool | None = None) -> Slot | None:
        """A worker that may take a task now; only that outbox's, or only one that has had no task yet, or has, if so asked."""
        if self._at_work >= self.limit or not self._idle:
            return None
        if outbox_id is not None:
            return next((slot for slot in self._idle if slot.outbox_id == outbox_id), None)
        if fresh is not None:
            return next((slot for slot in reversed(self._idle) if slot.fresh is fresh), None)
        if self.on_probation is not None:
            return next((slot for slot in self._idle if slot.index == self.on_probation), self._idle[-1])
        return self._idle[-1]

    def maybe_beyond(self) -> Slot | None:
        """An idle worker, best a helper, though as many are at work as may be; one more than that, or as many as help."""
        if not self._idle or self._at_work >= self.limit + max(min(self.helpers, self.limit), 1):
            return None
        return self._idle[0] if self._idle[0].helper else self._idle[-1]

    @property
    def at_work(self) -> int:
        """How many workers have a task."""
        return self._at_work

    @property
    def tasks_at_work(self) -> list[TaskRecord]:
        """What they have."""
        return [slot.task for slot in self.slots.values() if slot.task is not None and slot.state in _AT_WORK]

    @property
    def full(self) -> bool:
        """Whether as many are at work as may be, and that is anybody."""
        return self._at_work >= self.limit > 0

    def count_idle_anew(self) -> None:
        """From now on `least_idle` is of the time that comes."""
        self.least_idle = len(self._idle)

    def maybe_with(self, task: TaskRecord) -> Slot | None:
        """The slot whose worker has the task."""
        return next((slot for slot in self.slots.values() if slot.task is task), None)

    @property
    def idle(self) -> int:
        """How many more tasks could begin at once."""
        return max(min(len(self._idle), self.limit - self._at_work), 0)

    @property
    def idle_fresh(self) -> int:
        """How many that have nothing to do have had no task yet."""
        return sum(slot.fresh for slot in self._idle)

    @property
    def idle_bodies(self) -> int:
        """How many workers have nothing to do, whether or not they may work."""
        return len(self._idle)

    @property
    def running(self) -> int:
        """How many slots hold a task."""
        return sum(slot.task is not None for slot in self.slots.values())

    def count(self, *states: WorkerState) -> int:
        """How many slots are in one of these states."""
        return sum(slot.state in states for slot in self.slots.values())

    def due(self, now: float) -> list[Slot]:
        """The slots whose timer has run out."""
        timers = [(slot.timer, slot) for slot in self.slots.values() if slot.timer is not None]
        self.earliest = min((timer for timer, _ in timers if timer > now), default=inf)
        return [slot for timer, slot in timers if timer <= now]

    def _write_down(self, slot: Slot, before: WorkerState, event: WorkerEvent, cause: str) -> None:
        self.journal.enter(
            WorkerMoved(
                at=self.journal.now,
                slot=slot.index,
                pid=slot.pid,
                before=before.value,
                event=event.value,
                after=slot.state.value,
                cause=cause,
                task_id=None if slot.task is None else slot.task.task_id,
            )
        )
