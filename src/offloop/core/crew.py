"""The worker slots: each one's life, its present task, and the one timer that its state asks for."""

from __future__ import annotations

from math import inf

import msgspec

from .arena import Block
from .tasks import TaskRecord
from .worker_state import WorkerEvent, WorkerLife, WorkerState

__all__ = ["TIMER_EVENTS", "Crew", "Slot"]

TIMER_EVENTS = {
    WorkerState.STARTING: WorkerEvent.START_EXPIRED,
    WorkerState.RESTARTING: WorkerEvent.START_EXPIRED,
    WorkerState.BUSY: WorkerEvent.DEADLINE_EXPIRED,
    WorkerState.TIMED_OUT: WorkerEvent.GRACE_EXPIRED,
    WorkerState.RETIRING: WorkerEvent.GRACE_EXPIRED,
}
"""What a timer means is what the state says: a slot never needs two."""


class Slot(msgspec.Struct, eq=False):
    """One place for a worker; processes come and go in it."""

    index: int
    life: WorkerLife
    outbox_id: int | None = None  # the present process's outbox; None: there is no process
    task: TaskRecord | None = None
    ready_since: float | None = None  # when the present process became ready; None: it has not
    timer: float | None = None  # when the present state has lasted too long; in RESTARTING without a process: when to start
    standing: Block | None = None  # result memory that the worker may begin any task with; held under the outbox's number
    verdict: str | None = None  # why we kill it, where its own fault

    @property
    def state(self) -> WorkerState:
        return self.life.state


class Crew:
    """All slots of a pool."""

    def __init__(self, workers: int) -> None:
        self.slots = [Slot(index, WorkerLife()) for index in range(workers)]
        self._idle: list[Slot] = []  # last in, first out: the worker with the warmest caches
        self._outbox_id = 0
        self.earliest = inf  # no timer runs out before; timers that were taken back may leave it too early

    def new_outbox_id(self) -> int:
        """A number for an incarnation's outbox, never used twice."""
        self._outbox_id += 1
        return self._outbox_id

    def apply(self, slot: Slot, event: WorkerEvent, timer: float | None = None) -> WorkerState:
        """Follow the table, and let the new state's timer run."""
        before = slot.life.state
        state = slot.life.apply(event)
        self.set_timer(slot, timer)
        if before is WorkerState.IDLE:
            self._idle.remove(slot)
        if state is WorkerState.IDLE:
            self._idle.append(slot)
        return state

    def set_timer(self, slot: Slot, timer: float | None) -> None:
        """Let a slot's timer run until then, or stop it."""
        slot.timer = timer
        if timer is not None and timer < self.earliest:
            self.earliest = timer

    def maybe_idle(self, outbox_id: int | None = None) -> Slot | None:
        """A worker that could take a task now; with an outbox's number, only that outbox's worker."""
        if outbox_id is None:
            return self._idle[-1] if self._idle else None
        return next((slot for slot in self._idle if slot.outbox_id == outbox_id), None)

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def running(self) -> int:
        """How many slots hold a task."""
        return sum(slot.task is not None for slot in self.slots)

    def count(self, *states: WorkerState) -> int:
        """How many slots are in one of these states."""
        return sum(slot.state in states for slot in self.slots)

    def due(self, now: float) -> list[Slot]:
        """The slots whose timer has run out."""
        late = [slot for slot in self.slots if slot.timer is not None and slot.timer <= now]
        self.earliest = min((slot.timer for slot in self.slots if slot.timer is not None and slot.timer > now), default=inf)
        return late
