"""Keeping the pool staffed: who is started, replaced, recycled, or asked to leave.

Everything comes down to one comparison, made after each event that could change it: so many workers there should be (tasks at
once, and spares; and helpers, for small tasks beside large ones), so many there are. Whoever is missing is hired, whoever is
too many leaves between two tasks. A worker that is worn (too many tasks, too old, too much memory) counts for nothing in that
sum, so its replacement is hired at once, and it leaves when that one is ready. A worker that is spent (it was given as many
tasks as it may) is replaced while it does its last one, and leaves right after it.

When a start may happen is the restart policy's to say. When several starts in a row have failed and nobody is at work, the
waiting tasks are told so instead of waiting for ever.
"""

from __future__ import annotations

from math import inf

from ...errors import CrashReport, WorkerDied
from ...pool_events import BreakerMoved, WorkerCrashed, WorkerMemoryTooSmall
from ...wire.messages import Retire
from ...wire.status import STATUS_NBYTES
from ..memory.allocator import pages
from ..memory.arena import Arena
from ..memory.budget import DEFAULT_WORKER_NBYTES, MIN_TASKS_NBYTES
from ..model.commands import AnnounceOpening, Command, Send, StartWorker
from ..model.events import PressureMeasured
from ..model.settings import AdmissionMode, CoreSettings
from ..model.worker_slot import WorkerSlot
from ..model.worker_state import WorkerEvent, WorkerState
from .concurrency_limiter import AimdLimiter
from .restart_policy import CircuitBreaker, RestartPolicy
from .worker_table import WorkerTable

__all__ = ["WorkerReconciler"]

_MAX_START_FAILURES = 3  # start-up deaths in a row
_MIN_TASKS_BEFORE_WARNING = 2  # with the second task a worker says how much memory it had after the first
_MIN_PAUSE_S = 0.1  # between two looks at who is not needed: each wakes the loop

_S = WorkerState
_READY_STATES = (_S.IDLE, _S.BUSY, _S.TIMED_OUT)
_ON_THE_WAY = (_S.STARTING, _S.RESTARTING)
_COMING = (*_ON_THE_WAY, _S.FAILED)
_LEAVING = (_S.RETIRING, _S.TERMINATING)


class WorkerReconciler:
    """Starts, replacements and farewells."""

    def __init__(self, worker_table: WorkerTable, arena: Arena, settings: CoreSettings) -> None:
        self.restart_policy = RestartPolicy(settings.restart_intensity, settings.restart_period_s, settings.seed)
        self.spares = settings.spares
        self.max_workers = settings.workers  # workers for tasks, at most...
        self.min_workers = settings.workers if settings.min_workers is None else settings.min_workers  # ...and at least
        self.desired_workers = self.min_workers  # and now
        self.limiter = AimdLimiter()
        self.next_scale_down_at = inf  # when to see who has not been needed
        self.starts = 0  # processes started, for statistics
        self.recycled = 0  # workers replaced because they were worn, for statistics
        self.last_failure: CrashReport | None = None  # of a start
        self.start_error: WorkerDied | None = None  # set while starts come to nothing
        self.unavailable_error: WorkerDied | None = None  # and while nobody is at work either
        self._abandoned = 0  # processes that could not be killed and are there yet
        self._last_abandoned: WorkerDied | None = None  # the error about the last of them
        self._worker_table = worker_table
        self._arena = arena
        self._settings = settings
        self._announced = False
        self._ready_since_resize = 0  # workers
        self._warned_about_memory = False  # that a worker has more than it may keep as soon as its plugins are loaded
        self._excess = False  # somebody is to leave as soon as he is idle
        self._breaker = CircuitBreaker.CLOSED  # as it was last told

    @property
    def may_grow(self) -> bool:
        """Whether somebody may be hired for tasks that wait."""
        return self.desired_workers < self._worker_table.concurrency_limit

    @property
    def wanted(self) -> int:
        """How many workers there should be."""
        return self._places + self._worker_table.helpers

    @property
    def _places(self) -> int:
        """How many workers there should be beside helpers.

        As many abandoned processes as there are places are replaced and no more, because what holds up one worker after the
        other (a file system that hangs) would fill the machine with processes.
        """
        return max(self.desired_workers + self.spares - max(self._abandoned - self.max_workers - self.spares, 0), 0)

    @property
    def abandoned_count(self) -> WorkerDied | None:
        """The error for waiting tasks while so many processes could not be killed that no worker may be started."""
        return self._last_abandoned if self._abandoned and self.max_workers and not self._places else None

    @property
    def converged(self) -> bool:
        """Whether so many workers are at work and no other is there, but for the worn ones and those that come in their place.

        Where each worker has few tasks, they are never all at work at the same time: it is enough that as many have become
        ready since the size was changed.
        """
        sound = [slot for slot in self._worker_table if slot.recycling is None]
        return len(sound) == self.wanted <= max(self._worker_table.count(*_READY_STATES), self._ready_since_resize)

    def resize(self, workers: int, now: float) -> list[Command]:
        """So many tasks may run at once from now on."""
        least, most = self._settings.min_workers, self._settings.workers
        self.max_workers = workers
        self.min_workers = min(least, workers) if least is not None and least < most else workers
        self.desired_workers = min(max(self.desired_workers, self.min_workers), workers)
        self._worker_table.helpers = min(self._worker_table.helpers, workers)
        self._ready_since_resize = 0
        self._set_limit()
        return self.reconcile(now)

    def scale_to_zero(self, now: float) -> list[Command]:
        """The pool closes: nobody is wanted any more."""
        self.max_workers = self.min_workers = self.desired_workers = self.spares = self._worker_table.concurrency_limit = (
            self._worker_table.helpers
        ) = 0
        self.next_scale_down_at = inf
        return self.reconcile(now)

    def on_memory_pressure(self, event: PressureMeasured, now: float) -> None:
        """The machine's memory was looked at: perhaps not so many tasks may run at once. Nobody leaves for it."""
        self.limiter.observe(event.available_share, event.stalled_share, self.max_workers, now)
        self._set_limit()

    def scale_up_for(self, waiting: int, now: float) -> list[Command]:
        """So many tasks wait, and nobody may take them: whoever may be hired for them is, but not while memory is short."""
        staff = max(self.desired_workers, min(self._worker_table.busy + waiting, self._worker_table.concurrency_limit))
        if staff == self.desired_workers:
            return []
        self.desired_workers = staff
        self._schedule_scale_down(now)
        return self.reconcile(now)

    def want_helpers(self, helpers: int, now: float) -> list[Command]:
        """All have large tasks, and small ones may come or wait: so many help, unless more than the spares are idle, or a
        helper is on the way. There are never more helpers than others: the large tasks are to go on."""
        helpers = min(helpers, self._worker_table.concurrency_limit)
        if helpers <= self._worker_table.helpers or self._worker_table.idle_processes > self.spares:
            return []
        if any(slot.helper and slot.task is None for slot in self._worker_table):
            return []
        self._worker_table.helpers = helpers
        self._schedule_scale_down(now)
        return self.reconcile(now)

    def scale_down_idle(self, now: float, *, large_everywhere: bool = False) -> None:
        """Those that were idle for all of the time since the last look are not wanted any more; but helpers are that stand in
        for others who are not there, and one is while all others have large tasks: it would be hired again at once."""
        if now < self.next_scale_down_at:
            return
        unneeded = max(self._worker_table.min_idle - self.spares, 0)
        helpers = self._worker_table.helpers
        present = sum(slot.state in _READY_STATES for slot in self._worker_table if not slot.helper)
        needed = max(self.desired_workers + self.spares - present, int(large_everywhere))
        self._worker_table.helpers = max(helpers - unneeded, min(helpers, needed))
        self.desired_workers = max(self.desired_workers - max(unneeded - helpers, 0), self.min_workers)
        self._schedule_scale_down(now)

    def _set_limit(self) -> None:
        if self.max_workers:
            self._worker_table.concurrency_limit = min(self.max_workers, self.limiter.limit or self.max_workers)

    def _schedule_scale_down(self, now: float) -> None:
        self._worker_table.reset_min_idle()
        pause_s = max(self._settings.idle_timeout_s, _MIN_PAUSE_S)
        self.next_scale_down_at = (
            now + pause_s if self._worker_table.helpers or self.desired_workers > self.min_workers else inf
        )

    def reconcile(self, now: float) -> list[Command]:
        """Hire whoever is missing, let go whoever is too many, start whom the policy allows."""
        commands: list[Command] = []
        self.restart_policy.advance(now)
        for helper, wanted in ((False, self._places), (True, self._worker_table.helpers)):
            group = [slot for slot in self._worker_table if slot.helper is helper]
            sound = [slot for slot in group if slot.recycling is None and slot.state not in _LEAVING]
            for _ in range(wanted - len(sound)):
                self._worker_table.add(helper=helper)
            for slot in _find_surplus(group, sound, wanted):
                commands += self._retire(slot, now, slot.recycling or "there are more workers than wanted")
        commands += self._start_allowed(now)
        self._note_breaker(now)
        self._excess = len(self._worker_table) > self.wanted
        return commands

    def on_worker_ready(self, slot: WorkerSlot, now: float) -> list[Command]:
        """A slot's worker is ready."""
        settings = self._settings
        slot.ready_since = now
        self._ready_since_resize += 1
        if settings.max_tasks_per_worker is not None:
            slot.max_tasks = max(round(self.restart_policy.jittered_down(settings.max_tasks_per_worker)), 1)
        if settings.max_worker_bytes is not None:
            slot.max_bytes = self.restart_policy.jittered_down(settings.max_worker_bytes)
        slot.max_bytes = min(slot.max_bytes, self._share_bytes)
        if settings.max_worker_age_s is not None:
            slot.expires_at = now + self.restart_policy.jittered(settings.max_worker_age_s)
            self._worker_table.set_timer(slot, slot.expires_at)
        self.restart_policy.became_ready(slot.index, now)
        self.start_error = self.unavailable_error = None
        return self._announce_opening() + self.reconcile(now)

    @property
    def _share_bytes(self) -> float:
        """What a worker may keep between two tasks: if all grew beyond it, there would be no room left for any task."""
        settings = self._settings
        if settings.budget_bytes is None or settings.admission is not AdmissionMode.ENFORCE:
            return inf
        share = (settings.budget_bytes - MIN_TASKS_NBYTES) // max(self.max_workers + self.spares, 1)
        return max(share, DEFAULT_WORKER_NBYTES)

    def on_task_answered(self, slot: WorkerSlot, private_bytes: int, now: float) -> bool:
        """A worker is through with a task. Returns whether that changes who is wanted."""
        self.restart_policy.accepted(slot.index)
        if private_bytes > slot.max_bytes:
            self._mark_for_recycling(
                slot, f"it has {private_bytes:,} bytes of private memory, and {slot.max_bytes:,.0f} are its share"
            )
            self._warn_about_memory(slot, private_bytes, now)
        elif slot.expires_at is not None and slot.expires_at <= now:
            self.mark_expired(slot, now)
        return self._excess or slot.recycling is not None or self.restart_policy.breaker is not self._breaker

    def stop_using(self, slot: WorkerSlot, reason: str) -> None:
        """The worker must not have another task, and is to be replaced."""
        slot.max_tasks = slot.tasks
        self._mark_for_recycling(slot, reason)

    def replace_spent(self, now: float) -> list[Command]:
        """Workers were sent their last task: have their replacements started meanwhile."""
        for slot in self._worker_table:
            if slot.spent:
                self._mark_for_recycling(slot, f"it was given {slot.tasks} tasks")
        return self.reconcile(now)

    def _warn_about_memory(self, slot: WorkerSlot, private_bytes: int, now: float) -> None:
        """Report, once, that workers are replaced as soon as they are loaded."""
        if self._warned_about_memory or slot.tasks > _MIN_TASKS_BEFORE_WARNING:
            return
        self._warned_about_memory = True
        own, share = self._settings.max_worker_bytes, self._share_bytes
        by_setting = own is not None and own <= share
        limit, limited_by = (own, "max_worker_memory") if by_setting else (share, "a worker's share of memory_limit")
        report = WorkerMemoryTooSmall(
            at=now, slot=slot.index, private_bytes=private_bytes, limit_bytes=int(limit or 0), limited_by=limited_by
        )
        self._worker_table.event_log.append(report)

    def mark_expired(self, slot: WorkerSlot, now: float) -> None:
        """A worker has been there for as long as one may."""
        assert slot.ready_since is not None
        self._mark_for_recycling(slot, f"it is {now - slot.ready_since:.0f} s old")

    def replace(
        self, slot: WorkerSlot, now: float, report: CrashReport, how: WorkerEvent, *, crashed: bool, accepted: bool
    ) -> list[Command]:
        """A slot's process is dead, or given up: start the next one, now or after a pause.

        Args:
            how: `REAPED` or `ABANDONED`.
            crashed: it was not us who ended it, or we did for its own fault.
            accepted: it had begun at least one task.
        """
        was_ready, worn = slot.ready_since is not None, slot.recycling is not None
        state = self._worker_table.apply(slot, how, cause=report.cause)
        slot.clear()
        if state is _S.GONE:
            self.recycled += worn
            if how is WorkerEvent.ABANDONED:
                self._worker_table.event_log.append(WorkerCrashed(at=now, slot=slot.index, report=report))
            self.restart_policy.on_worker_removed(slot.index, now)
            self._worker_table.remove(slot)
        elif not was_ready:
            self._start_failed(slot, report, now)
        elif crashed:
            self._worker_table.event_log.append(WorkerCrashed(at=now, slot=slot.index, report=report))
            self._worker_table.set_timer(slot, self.restart_policy.crashed(now, accepted=accepted))
        else:
            self.restart_policy.on_worker_removed(slot.index, now)
        return self._announce_opening() + self.reconcile(now)

    def note_abandoned(self, abandoned: int, report: CrashReport | None) -> None:
        """So many processes could not be killed and are there yet; the report on the last of them, unless one has ended."""
        self._abandoned = abandoned
        if report is not None:
            self._last_abandoned = _death(report, report.running)

    def _start_failed(self, slot: WorkerSlot, report: CrashReport, now: float) -> None:
        self.last_failure = report
        self._worker_table.event_log.append(WorkerCrashed(at=now, slot=slot.index, report=report))
        self._worker_table.set_timer(slot, self.restart_policy.died_at_start(slot.index, now))
        if self.restart_policy.start_deaths >= _MAX_START_FAILURES:
            self.start_error = _death(report, "its start")
            self.unavailable_error = None if self._worker_table.count(*_READY_STATES) else self.start_error

    def make_room_for_unused_worker(self) -> None:
        """A task waits for a worker that has had none: if none is on its way, another is to be replaced, best an idle one."""
        if any(slot.state in _COMING or (slot.unused and slot.state in _READY_STATES) for slot in self._worker_table):
            return
        sound = [slot for slot in self._worker_table if slot.recycling is None and slot.state in _READY_STATES]
        sound.sort(key=lambda slot: slot.state is not _S.IDLE)  # in a pool that is never idle it would wait for ever
        for slot in sound[:1]:
            self._mark_for_recycling(slot, "a task wants a worker that has had none")

    def _announce_opening(self) -> list[Command]:
        """Say that the pool is open, once every worker has had its first start; with an error if none came of it."""
        if self._announced or (self._worker_table.count(_S.STARTING) and self.unavailable_error is None):
            return []
        if not self._worker_table.count(*_READY_STATES) and self.unavailable_error is None:
            return []
        self._announced = True
        return [AnnounceOpening(self.unavailable_error)]

    def _retire(self, slot: WorkerSlot, now: float, cause: str) -> list[Command]:
        """Ask the slot's process to leave; an empty slot is gone at once."""
        if slot.outbox_id is None:
            self._worker_table.apply(slot, WorkerEvent.RETIREMENT_REQUESTED, cause=cause)
            self._worker_table.apply(slot, WorkerEvent.EXITED)
            self._worker_table.remove(slot)
            return []
        self._worker_table.apply(slot, WorkerEvent.RETIREMENT_REQUESTED, now + self._settings.grace_s, cause=cause)
        return [Send(slot.index, Retire())]

    def _mark_for_recycling(self, slot: WorkerSlot, reason: str) -> None:
        slot.recycling = slot.recycling or reason
        slot.expires_at = None
        if slot.state is _S.IDLE:
            self._worker_table.set_timer(slot, None)

    def _note_breaker(self, now: float) -> None:
        self._worker_table.half_open_slot = self.restart_policy.half_open_slot
        breaker = self.restart_policy.breaker
        if breaker is not self._breaker:
            self._worker_table.event_log.append(BreakerMoved(at=now, before=self._breaker.value, after=breaker.value))
            self._breaker = breaker

    def _start_allowed(self, now: float) -> list[Command]:
        commands: list[Command] = []
        on_the_way = [slot for slot in self._worker_table if slot.state in _ON_THE_WAY]
        starting = sum(slot.outbox_id is not None for slot in on_the_way)
        for slot in on_the_way:
            if slot.outbox_id is not None or (slot.timer is not None and slot.timer > now):
                continue
            if starting >= self._settings.max_starts:
                self._worker_table.set_timer(slot, None)  # it is its turn when one of those has ended
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
        return StartWorker(slot.index, slot.outbox_id, nbytes, slot.helper)


def _death(report: CrashReport, running: str | None) -> WorkerDied:
    """The error for tasks that get no worker."""
    return WorkerDied(report.exit_code, reason=report.reason, running=running, stderr_tail=report.stderr_tail, report=report)


def _find_surplus(group: list[WorkerSlot], sound: list[WorkerSlot], wanted: int) -> list[WorkerSlot]:
    """The slots of a group that are to be empty: those on the way that are not needed, idle workers that are spent, and of the
    other idle ones the worn first."""
    on_the_way = [slot for slot in sound if slot.state in _ON_THE_WAY]
    on_the_way.sort(key=lambda slot: slot.outbox_id is not None)  # those first that cost nothing to let go
    leaving = on_the_way[: max(len(sound) - wanted, 0)]
    leaving += [slot for slot in group if slot.state is _S.IDLE and slot.spent]
    present = [slot for slot in group if slot.state in _READY_STATES and slot not in leaving]
    idle = [slot for slot in present if slot.state is _S.IDLE]
    worn = sum(slot.recycling is not None for slot in present)
    leaving += [slot for slot in idle if slot.recycling is not None][: max(len(present) - wanted, 0)]
    leaving += [slot for slot in idle if slot.recycling is None][: max(len(present) - worn - wanted, 0)]
    return leaving
