"""Worker table: the slots of a pool with their states, processes, tasks and timers.

Each slot belongs to one worker group, and its index is unique in the pool. `GroupSlots` has the idle workers of a group, and
how many of its tasks may run at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf

from ...operation import DEFAULT_GROUP
from ...pool_events import WorkerMoved
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent, WorkerState, WorkerStateMachine
from ..telemetry.event_log import EventLog
from .group_slots import GroupSlots

__all__ = ["TIMER_EVENTS", "WorkerTable"]

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


class WorkerTable:
    """All slots of a pool."""

    def __init__(self, groups: Iterable[GroupSlots], event_log: EventLog | None = None) -> None:
        self.event_log = EventLog() if event_log is None else event_log
        self.next_timer = inf
        """Lower bound of the next timer of a slot or a group; may be early, because cancelled timers are not removed."""
        self.slots: dict[int, WorkerSlot] = {}  # by index
        self.groups = {group.name: group for group in groups}
        """The slots of each group, by its name."""
        self._planned = dict.fromkeys(self.groups, 0)
        self.planned_workers = 0
        """Number of workers of all groups, with spares: as configured; of groups that start on demand, as desired now."""
        self._outbox_id = 0

    def __iter__(self) -> Iterator[WorkerSlot]:
        return iter(tuple(self.slots.values()))

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, index: int) -> WorkerSlot:
        return self.slots[index]

    def add(self, group: str = DEFAULT_GROUP) -> WorkerSlot:
        """Add a slot to a group, with the lowest free index."""
        index = next(n for n in range(len(self.slots) + 1) if n not in self.slots)
        slot = WorkerSlot(index, group, WorkerStateMachine())
        self.slots[index] = self.groups[group].slots[index] = slot
        return slot

    def remove(self, slot: WorkerSlot) -> None:
        """Remove a slot whose state is GONE."""
        del self.slots[slot.index]
        del self.groups[slot.group].slots[slot.index]

    def new_outbox_id(self) -> int:
        """A number for the outbox of a new process; no number is used twice."""
        self._outbox_id += 1
        return self._outbox_id

    def plan(self, group: str, workers: int) -> None:
        """Set how many workers of a group `planned_workers` counts."""
        self._planned[group] = workers
        self.planned_workers = sum(self._planned.values())

    def apply(
        self, slot: WorkerSlot, event: WorkerEvent, now: float, timer: float | None = None, *, cause: str = ""
    ) -> WorkerState:
        """Apply an event to a slot's state machine, and set the timer of the new state."""
        state_machine = slot.state_machine
        before, state = state_machine.state, state_machine.apply(event)
        slot.timer = timer
        if timer is not None and timer < self.next_timer:
            self.next_timer = timer
        self.groups[slot.group].move(slot, before, state)
        if self.event_log.has_subscribers:
            self._log_transition(slot, before, event, cause, now)
        return state

    def set_timer(self, slot: WorkerSlot, timer: float | None) -> None:
        """Set the time at which a slot's timer expires; None cancels it."""
        slot.timer = timer
        if timer is not None:
            self.wake_at(timer)

    def wake_at(self, at: float) -> None:
        """Wake the pool at this time at the latest."""
        self.next_timer = min(self.next_timer, at)

    @property
    def busy(self) -> int:
        """Number of busy workers."""
        return sum(group.busy for group in self.groups.values())

    @property
    def running(self) -> int:
        """Number of slots with a task."""
        return sum(slot.assigned is not None for slot in self.slots.values())

    def count(self, *states: WorkerState) -> int:
        """Number of slots in one of these states."""
        return sum(slot.state in states for slot in self.slots.values())

    def due(self, now: float) -> list[WorkerSlot]:
        """The slots whose timer has expired. The groups set their own timers again when they are reconciled."""
        timers = [(slot.timer, slot) for slot in self.slots.values() if slot.timer is not None]
        self.next_timer = min((timer for timer, _ in timers if timer > now), default=inf)
        return [slot for timer, slot in timers if timer <= now]

    def _log_transition(self, slot: WorkerSlot, before: WorkerState, event: WorkerEvent, cause: str, now: float) -> None:
        task = slot.assigned
        self.event_log.append_if_watched(
            WorkerMoved(
                at=now,
                slot=slot.index,
                group=slot.group,
                pid=slot.pid,
                before=before.value,
                event=event.value,
                after=slot.state.value,
                cause=cause,
                task_id=None if task is None else task.task_id,
                labels={} if task is None else task.spec.labels,
            )
        )
