"""Worker table: the slots of a pool with their states, processes, tasks and timers.

There may be more ready workers than tasks that run at once (`concurrency_limit`), because of spares and of replacements that
wait for the worker that they replace. They are not marked: any idle worker may get a task while fewer than `concurrency_limit`
are busy. So when a worker dies, another one gets the next task in the same event. Only helpers (for small tasks beside large
ones) are marked. Their processes get more of a CPU than the others, so other tasks go to them last.
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
    WorkerState.LOADING: WorkerEvent.LOAD_EXPIRED,
    WorkerState.BUSY: WorkerEvent.DEADLINE_EXPIRED,
    WorkerState.TIMED_OUT: WorkerEvent.GRACE_EXPIRED,
    WorkerState.RETIRING: WorkerEvent.GRACE_EXPIRED,
    WorkerState.FAILED: WorkerEvent.ABANDONED,
    WorkerState.TERMINATING: WorkerEvent.ABANDONED,
}
"""The event of an expired timer in each state. Each slot has one timer. The timer of an idle worker expires at the worker's
maximum age, and the timer of a slot without a process at its next start; these two are no events of the state machine."""

_BUSY_STATES = frozenset((WorkerState.BUSY, WorkerState.TIMED_OUT))
_IDLE = WorkerState.IDLE  # a member that is looked up on its class costs 0.1 us on Python 3.11, dozens of times for a task


class WorkerTable:
    """All slots of a pool."""

    def __init__(self, limit: int, event_log: EventLog | None = None) -> None:
        self.concurrency_limit = limit  # tasks at once
        self.event_log = EventLog() if event_log is None else event_log
        self.next_timer = inf  # lower bound of the next timer; may be early, because cancelled timers are not removed
        self.half_open_slot: int | None = None  # slot of the worker that gets the next task, to close or open the breaker
        self.slots: dict[int, WorkerSlot] = {}  # by index
        self.helpers = 0  # desired number of helpers
        self._idle: list[WorkerSlot] = []  # helpers, then unused workers, then used ones, the last used (warmest caches) last
        self._busy = 0  # number of busy workers
        self.min_idle = 0  # minimum number of idle workers since the last scale-down check
        self._outbox_id = 0

    def __iter__(self) -> Iterator[WorkerSlot]:
        return iter(tuple(self.slots.values()))

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, index: int) -> WorkerSlot:
        return self.slots[index]

    def add(self, *, helper: bool = False) -> WorkerSlot:
        """Add a slot with the lowest free index."""
        index = next(n for n in range(len(self.slots) + 1) if n not in self.slots)
        slot = self.slots[index] = WorkerSlot(index, WorkerStateMachine(), helper)
        return slot

    def remove(self, slot: WorkerSlot) -> None:
        """Remove a slot whose state is GONE."""
        del self.slots[slot.index]

    def new_outbox_id(self) -> int:
        """A number for the outbox of a new process; no number is used twice."""
        self._outbox_id += 1
        return self._outbox_id

    def apply(self, slot: WorkerSlot, event: WorkerEvent, timer: float | None = None, *, cause: str = "") -> WorkerState:
        """Apply an event to a slot's state machine, and set the timer of the new state."""
        state_machine = slot.state_machine
        before, state = state_machine.state, state_machine.apply(event)
        slot.timer = timer
        if timer is not None and timer < self.next_timer:
            self.next_timer = timer
        if before is _IDLE:
            self._idle.remove(slot)
            if len(self._idle) < self.min_idle:  # noqa: PLR1730 (min() is slower, and this runs twice for each task)
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
        """Insert a helper first, and an unused worker after the helpers, so that spares stay unused."""
        others = (n for n, other in enumerate(self._idle) if not other.helper)
        self._idle.insert(0 if slot.helper else next(others, len(self._idle)), slot)

    def set_timer(self, slot: WorkerSlot, timer: float | None) -> None:
        """Set the time at which a slot's timer expires; None cancels it."""
        slot.timer = timer
        if timer is not None and timer < self.next_timer:
            self.next_timer = timer

    def find_idle(self, outbox_id: int | None = None, *, unused: bool | None = None) -> WorkerSlot | None:
        """An idle worker that may get a task within the concurrency limit; None if there is none.

        Args:
            outbox_id: only the worker of this outbox.
            unused: only a worker that has had no task yet (True), or that has had one (False).
        """
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
        """An idle worker, preferably a helper, for a task beyond the concurrency limit; None if there is none.

        Beyond the limit, as many workers may be busy as there are helpers, and at least one.
        """
        if not self._idle or self._busy >= self.concurrency_limit + max(min(self.helpers, self.concurrency_limit), 1):
            return None
        return self._idle[0] if self._idle[0].helper else self._idle[-1]

    @property
    def busy(self) -> int:
        """Number of busy workers."""
        return self._busy

    @property
    def busy_tasks(self) -> list[TaskRecord]:
        """The tasks of busy workers."""
        return [slot.task for slot in self.slots.values() if slot.task is not None and slot.state in _BUSY_STATES]

    @property
    def at_limit(self) -> bool:
        """Whether as many workers are busy as the concurrency limit allows; False if the limit is 0."""
        return self._busy >= self.concurrency_limit > 0

    def reset_min_idle(self) -> None:
        """Begin a new minimum of idle workers."""
        self.min_idle = len(self._idle)

    def find_with_task(self, task: TaskRecord) -> WorkerSlot | None:
        """The slot of the worker that has the task."""
        return next((slot for slot in self.slots.values() if slot.task is task), None)

    @property
    def idle(self) -> int:
        """Number of tasks that could start now."""
        return max(min(len(self._idle), self.concurrency_limit - self._busy), 0)

    @property
    def idle_unused(self) -> int:
        """Number of idle workers that have had no task yet."""
        return sum(slot.unused for slot in self._idle)

    @property
    def idle_processes(self) -> int:
        """Number of idle workers, with those beyond the concurrency limit."""
        return len(self._idle)

    @property
    def running(self) -> int:
        """Number of slots with a task."""
        return sum(slot.task is not None for slot in self.slots.values())

    def count(self, *states: WorkerState) -> int:
        """Number of slots in one of these states."""
        return sum(slot.state in states for slot in self.slots.values())

    def due(self, now: float) -> list[WorkerSlot]:
        """The slots whose timer has expired."""
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
