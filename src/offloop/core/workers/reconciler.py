"""Worker reconciler: compares the workers that a group should have with those that it has, and starts or retires workers.

The comparison is made after each event that could change one of the two numbers. `Autoscaler` sets how many workers there
should be (desired workers and spares). Missing workers are started; surplus workers retire between two tasks. A worker that is
marked by `Recycling` is not counted, so its replacement starts at once, and it retires when the replacement is ready. A spent
worker (with as many tasks as it may have) retires right after its last task.

`RestartPolicy` says when a worker may start. When several starts in a row have failed and no worker of the group is ready, the
tasks that wait for the group end with an error.
"""

from __future__ import annotations

from ...errors import CrashReport, WorkerDied
from ...pool_events import BreakerMoved, WorkerCrashed
from ...wire.messages import Retire
from ...wire.status import STATUS_NBYTES
from ..memory.allocator import pages
from ..memory.arena import Arena
from ..model.commands import Command, Send, StartWorker
from ..model.settings import CoreSettings, GroupSettings
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent, WorkerState
from .autoscaler import Autoscaler
from .group_slots import READY_STATES, GroupSlots
from .jitter import Jitter
from .plugin_loads import PluginLoads
from .restart_policy import CircuitBreaker, RestartPolicy
from .worker_table import WorkerTable

__all__ = ["WorkerReconciler"]

_MAX_START_FAILURES = 3  # failed starts in a row

_S = WorkerState
_STARTING_STATES = (_S.STARTING, _S.LOADING, _S.RESTARTING)
_LEAVING_STATES = (_S.RETIRING, _S.TERMINATING)


class WorkerReconciler:
    """Starts missing workers of one group and retires surplus ones."""

    def __init__(
        self,
        worker_table: WorkerTable,
        group_slots: GroupSlots,
        autoscaler: Autoscaler,
        plugin_loads: PluginLoads,
        jitter: Jitter,
        arena: Arena,
        settings: CoreSettings,
        group_settings: GroupSettings,
    ) -> None:
        self.restart_policy = RestartPolicy(group_settings.restart_intensity, group_settings.restart_period_s, jitter)
        self.starts = 0  # number of started processes, for statistics
        self.recycled = 0  # number of workers that were recycled and are gone, for statistics
        self.last_failure: CrashReport | None = None  # report of the last failed start
        self.start_error: WorkerDied | None = None  # error for tasks that need an unused worker, while starts fail
        self.unavailable_error: WorkerDied | None = None  # the same for all waiting tasks, while no worker is ready
        self.waits_for_other_start = False  # whether a start waits for the end of another start in the pool (`max_starts`)
        self.abandoned = 0  # number of processes that could not be killed and are still alive
        self._last_abandoned: WorkerDied | None = None  # error about the last of them
        self._worker_table = worker_table
        self._group_slots = group_slots
        self._autoscaler = autoscaler
        self._plugin_loads = plugin_loads
        self._arena = arena
        self._settings = settings
        self._ready_since_resize = 0  # number of workers
        self._has_surplus = False  # whether a worker must retire as soon as it is idle
        self._breaker = CircuitBreaker.CLOSED  # state in the last logged event

    @property
    def wanted(self) -> int:
        """Number of workers that there should be, with spares.

        As many abandoned processes are replaced as the group has workers, and no more. Otherwise a fault that blocks one worker
        after the other (a file system that hangs) would fill the machine with processes.
        """
        configured = self._autoscaler.max_workers + self._autoscaler.spares
        return max(self._autoscaler.wanted_workers - max(self.abandoned - configured, 0), 0)

    @property
    def abandoned_error(self) -> WorkerDied | None:
        """The error for waiting tasks while no worker may start because of the processes that could not be killed."""
        is_blocked = self.abandoned and self._autoscaler.wanted_workers and not self.wanted
        return self._last_abandoned if is_blocked else None

    @property
    def converged(self) -> bool:
        """Whether the workers that there should be are ready and no other is there, except recycled ones and their
        replacements.

        Where each worker has few tasks, they are never all ready at the same time. So it is enough that as many have become
        ready since the last resize.
        """
        counted = [slot for slot in self._group_slots if slot.recycling is None]
        return len(counted) == self.wanted <= max(self._group_slots.count(*READY_STATES), self._ready_since_resize)

    def expect_ready_workers(self) -> None:
        """The number of tasks that may run at once was changed: count the workers that become ready from now on."""
        self._ready_since_resize = 0

    def reconcile(self, now: float) -> list[Command]:
        """Add missing slots, retire surplus workers, and start the workers that the restart policy allows."""
        commands: list[Command] = []
        self.restart_policy.advance(now)
        slots, wanted = list(self._group_slots), self.wanted
        counted = [slot for slot in slots if slot.recycling is None and slot.state not in _LEAVING_STATES]
        for _ in range(wanted - len(counted)):
            self._worker_table.add(self._group_slots.name)
        for slot in _find_surplus(slots, counted, wanted):
            commands += self._retire(slot, now, slot.recycling or "there are more workers than wanted")
        commands += self._start_allowed(now)
        self._log_breaker(now)
        self._has_surplus = len(self._group_slots) > wanted
        self._worker_table.plan(self._group_slots.name, self._autoscaler.planned_workers)
        self._worker_table.wake_at(min(self.restart_policy.wake_at, self._autoscaler.next_scale_down_at))
        return commands

    def on_worker_ready(self, slot: WorkerSlot, now: float) -> list[Command]:
        """A worker has become ready."""
        slot.ready_since = now
        self._ready_since_resize += 1
        self.restart_policy.became_ready(slot.index, now)
        self.start_error = self.unavailable_error = None
        return self.reconcile(now)

    def on_task_answered(self, slot: WorkerSlot) -> bool:
        """A worker has answered for its task. Returns whether `reconcile` has work to do."""
        policy = self.restart_policy
        if policy.unaccepted or policy.half_open_slot is not None:
            policy.accepted(slot.index)
        return self._has_surplus or slot.recycling is not None or policy.breaker is not self._breaker

    def replace(
        self, slot: WorkerSlot, now: float, report: CrashReport, how: WorkerEvent, *, crashed: bool, accepted: bool
    ) -> list[Command]:
        """A slot's process is dead, or abandoned: start the next one, now or after a pause.

        Args:
            slot: the slot.
            now: seconds.
            report: how the process ended.
            how: `EXITED` or `ABANDONED`.
            crashed: whether the process ended by itself, or was killed for its own fault.
            accepted: whether it had begun at least one task.
        """
        was_ready, is_recycled = slot.ready_since is not None, slot.recycling is not None
        state = self._worker_table.apply(slot, how, now, cause=report.cause)
        slot.clear()
        if state is _S.GONE:
            self.recycled += is_recycled
            if how is WorkerEvent.ABANDONED:
                self._worker_table.event_log.append(WorkerCrashed(at=now, slot=slot.index, group=slot.group, report=report))
            self.restart_policy.on_worker_removed(slot.index, now)
            self._worker_table.remove(slot)
        elif not was_ready:
            self._start_failed(slot, report, now)
        elif crashed:
            self._worker_table.event_log.append(WorkerCrashed(at=now, slot=slot.index, group=slot.group, report=report))
            self._worker_table.set_timer(slot, self.restart_policy.crashed(now, accepted=accepted))
        else:
            self.restart_policy.on_worker_removed(slot.index, now)
        return self.reconcile(now)

    def forgive_failed_starts(self) -> None:
        """Start to count failed starts anew."""
        self.restart_policy.start_deaths = 0
        self.start_error = self.unavailable_error = None

    def note_abandoned(self, abandoned: int, report: CrashReport | None) -> None:
        """Set the number of processes that could not be killed and are still alive.

        Args:
            abandoned: their number.
            report: the report on the last of them; None if one of them has ended.
        """
        self.abandoned = abandoned
        if report is not None:
            self._last_abandoned = _error_from(report, report.running)

    def _start_failed(self, slot: WorkerSlot, report: CrashReport, now: float) -> None:
        self.last_failure = report
        self._worker_table.event_log.append(WorkerCrashed(at=now, slot=slot.index, group=slot.group, report=report))
        self._worker_table.set_timer(slot, self.restart_policy.died_at_start(slot.index, now))
        if self.restart_policy.start_deaths >= _MAX_START_FAILURES:
            self.start_error = _error_from(report, "its start")
            self.unavailable_error = None if self._group_slots.count(*READY_STATES) else self.start_error

    def _retire(self, slot: WorkerSlot, now: float, cause: str) -> list[Command]:
        """Ask the slot's process to leave; remove a slot without a process at once."""
        if slot.outbox_id is None:
            self._worker_table.apply(slot, WorkerEvent.RETIREMENT_REQUESTED, now, cause=cause)
            self._worker_table.apply(slot, WorkerEvent.EXITED, now)
            self._worker_table.remove(slot)
            return []
        self._worker_table.apply(slot, WorkerEvent.RETIREMENT_REQUESTED, now, now + self._settings.grace_s, cause=cause)
        return [Send(slot.index, Retire())]

    def _log_breaker(self, now: float) -> None:
        self._group_slots.half_open_slot = self.restart_policy.half_open_slot
        breaker = self.restart_policy.breaker
        if breaker is not self._breaker:
            self._worker_table.event_log.append(
                BreakerMoved(at=now, group=self._group_slots.name, before=self._breaker.value, after=breaker.value)
            )
            self._breaker = breaker

    def _start_allowed(self, now: float) -> list[Command]:
        commands: list[Command] = []
        starting = sum(slot.outbox_id is not None and slot.state in _STARTING_STATES for slot in self._worker_table)
        self.waits_for_other_start = False
        for slot in self._group_slots:
            if (
                slot.state not in _STARTING_STATES
                or slot.outbox_id is not None
                or (slot.timer is not None and slot.timer > now)
            ):
                continue
            if starting >= self._settings.max_starts:
                self._worker_table.set_timer(slot, None)
                self.waits_for_other_start = True
            elif self.restart_policy.may_start(slot.index, now):
                commands.append(self._start(slot, now))
                starting += 1
            else:
                self._worker_table.set_timer(slot, self.restart_policy.ask_again_at)
        return commands

    def _start(self, slot: WorkerSlot, now: float) -> StartWorker:
        slot.outbox_id = self._worker_table.new_outbox_id()
        self._worker_table.set_timer(slot, now + self._settings.start_timeout_s)
        self.starts += 1
        nbytes = pages(self._settings.limit_bytes) + STATUS_NBYTES
        self._arena.add_segment(slot.outbox_id, nbytes, keep=STATUS_NBYTES)
        slot.plugins = self._plugin_loads.enabled
        return StartWorker(slot.index, slot.outbox_id, nbytes, slot.group, slot.plugins)


def _error_from(report: CrashReport, running: str | None) -> WorkerDied:
    """The error for tasks that get no worker."""
    return WorkerDied(report.exit_code, reason=report.reason, running=running, stderr_tail=report.stderr_tail, report=report)


def _find_surplus(slots: list[WorkerSlot], counted: list[WorkerSlot], wanted: int) -> list[WorkerSlot]:
    """The slots of a group that must retire: surplus starting ones, idle spent workers, and surplus idle ones, recycled
    first."""
    starting = [slot for slot in counted if slot.state in _STARTING_STATES]
    starting.sort(key=lambda slot: slot.outbox_id is not None)  # first the slots without a process, which cost nothing
    leaving = starting[: max(len(counted) - wanted, 0)]
    leaving += [slot for slot in slots if slot.state is _S.IDLE and slot.spent]
    present = [slot for slot in slots if slot.state in READY_STATES and slot not in leaving]
    idle = [slot for slot in present if slot.state is _S.IDLE]
    recycled = sum(slot.recycling is not None for slot in present)
    leaving += [slot for slot in idle if slot.recycling is not None][: max(len(present) - wanted, 0)]
    leaving += [slot for slot in idle if slot.recycling is None][: max(len(present) - recycled - wanted, 0)]
    return leaving
