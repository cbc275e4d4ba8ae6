"""The pool's decisions: `PoolState.handle(event, now)` returns the commands that follow.

This file is the switchboard: what each event means for the workers (`crew`, `hiring`), the memory (`arena`, `supply`), the
order (`admission`, `queue`, `dispatch`) and the outcomes (`answers`, `deaths`, `ledger`).

What holds after every event, and is tested as such: a task has at most one worker and gets one outcome; a worker that might
still write to a block holds a lease on it; every slot in a state that can last too long has a timer; nobody is idle while a
task that it may have waits.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from ..errors import PoolClosed, QueueTimeout
from ..wire.messages import Cancel, Done, Failed, Need, Ready
from .admission import Admission
from .answers import Answers
from .arena import Arena, Holder, Lease
from .budget import WORKER_NBYTES, Budget
from .claims import ForgedClaim, checked_need, claimed_block
from .commands import Command, DropOutbox, KillWorker, Send
from .core_settings import FIRST_GRANT_NBYTES, CoreSettings
from .crew import TIMER_EVENTS, Crew, Slot
from .deaths import Deaths, was_begun
from .dispatch import Dispatch
from .events import (
    BlocksReturned,
    CloseRequested,
    DrainRequested,
    Event,
    InputAbandoned,
    InputRequested,
    PagesRefused,
    PagesReserved,
    PoolStarted,
    PressureMeasured,
    ResizeRequested,
    SourceIdentified,
    TaskCancelled,
    TaskEstimated,
    TaskPrepared,
    TaskRefused,
    TaskSubmitted,
    TimePassed,
    WorkerExited,
    WorkerMisbehaved,
    WorkerReaped,
    WorkerReported,
    WorkerSpawned,
)
from .hiring import Hiring
from .identification import Identification
from .journal import Journal
from .ledger import Ledger
from .outcomes import Outcome
from .phase import Phase
from .postmortem import report_on
from .quarantine import Quarantine
from .queue import TaskQueue
from .supply import Supply
from .tasks import Stop, TaskRecord, TaskSpec
from .warmth import Warmth
from .worker_state import WorkerEvent, WorkerState

__all__ = ["PoolState"]


class PoolState:
    """All of a pool's state but the descriptors."""

    def __init__(self, settings: CoreSettings) -> None:
        self.settings = settings
        self.phase = Phase.OPEN
        self.cut_short = False  # it held tasks when it was closed
        self.journal = Journal()
        self.arena = Arena(settings.limit_bytes, settings.inbox_nbytes)
        self.crew = Crew(settings.workers, self.journal)
        self.queue = TaskQueue(settings.tenant_weights)
        self.budget = Budget(self.arena, settings.budget_bytes, settings.admission)
        self.supply = Supply(self.arena, self.budget)
        self.ledger = Ledger(self.arena, self.supply, self.budget, self.queue, self.journal)
        self.hiring = Hiring(self.crew, self.arena, settings)
        self.warmth = Warmth(self.crew)
        self.quarantine = Quarantine(settings.quarantine_after, settings.quarantine_s)
        self.identification = Identification(self.arena)
        self.dispatch = Dispatch(self.crew, self.queue, self.supply, self.budget)
        self.dispatch.preparing = lambda: self.preparing
        self.admission = Admission(settings, self.ledger, self.quarantine, self.identification, self.dispatch)
        self.answers = Answers(self.arena, self.ledger, self.quarantine)
        self.deaths = Deaths(self.ledger, self.queue, self.answers, self.quarantine, self.identification, self.journal)
        self._now = 0.0
        self._commands: list[Command] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            PoolStarted: lambda _: self._commands.extend(self.hiring.reconcile(self._now)),
            DrainRequested: self._on_drain,
            CloseRequested: self._on_close,
            ResizeRequested: self._on_resize,
            TimePassed: self._on_time,
            TaskSubmitted: self._on_submitted,
            TaskEstimated: self._on_estimated,
            TaskPrepared: self._on_prepared,
            TaskRefused: self._on_refused,
            SourceIdentified: self._on_identified,
            TaskCancelled: self._on_cancelled,
            InputRequested: self._on_input_requested,
            InputAbandoned: lambda event: self.supply.abandon_input(event.input_id),
            BlocksReturned: lambda event: self.supply.take_back(event.generations),
            PagesReserved: lambda event: self._commands.extend(self.supply.pages_reserved(event.reservation)),
            PagesRefused: lambda event: self.supply.pages_refused(event.reservation, event.free_bytes),
            PressureMeasured: lambda event: self.hiring.measured(event, self._now),
            WorkerSpawned: self._on_spawned,
            WorkerReported: self._on_reported,
            WorkerMisbehaved: self._on_misbehaved,
            WorkerExited: self._on_exited,
            WorkerReaped: self._on_reaped,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in one fact; return what is to be done about it, in order. `now` is in seconds and never goes back."""
        self._now = self.journal.now = now
        self._handlers[type(event)](event)
        if self.queue:
            self._see_to_the_waiting()
        if self.supply.anyone_waits:
            self._commands += self.supply.serve(self.crew.running, len(self.queue))
        if self.dispatch.sent_large:
            self.dispatch.sent_large = False
            if self.dispatch.large_everywhere and self.budget.room_bytes > WORKER_NBYTES:
                self._commands += self.hiring.want_helper(now)
        commands, self._commands = self._commands, []
        return commands

    @property
    def wake_at(self) -> float:
        """When `TimePassed` is wanted, at the latest; infinity if there is nothing to wait for."""
        held_until = self.dispatch.wake_at if self.queue else inf
        return min(self.crew.earliest, self.queue.earliest, self.hiring.wake_at, held_until)

    @property
    def gone(self) -> bool:
        """The pool is closed: no process is left, none will come, and every task has its outcome."""
        return self.phase is Phase.CLOSING and not self.crew and not self.ledger

    @property
    def drained(self) -> bool:
        """Nothing new is taken, and nothing is held."""
        return self.phase is not Phase.OPEN and not self.ledger

    @property
    def preparing(self) -> int:
        """Tasks whose source is still on its way, or being looked at."""
        return len(self.ledger) - len(self.queue) - self.crew.running

    def can_run_in(self, outbox_id: int, task_id: int, nbytes: int) -> bool:
        """Whether that task could start this moment on that outbox's worker, with its source of so many bytes where it lies."""
        return self.dispatch.can_run_in(outbox_id, self.ledger.get(task_id) or TaskRecord(task_id, 0.0, nbytes=nbytes))

    # The pool's own life

    def _on_drain(self, _: DrainRequested) -> None:
        if self.phase is Phase.OPEN:
            self.phase = Phase.DRAINING

    def _on_close(self, _: CloseRequested) -> None:
        self.phase = Phase.CLOSING
        self.cut_short |= bool(self.ledger)
        self._commands += self.supply.close()
        self._see_to_the_waiting()  # now, and not one by one: there may be a hundred thousand
        for task in self.ledger:
            slot = self.crew.maybe_with(task)
            if slot is None:
                self._settle(task, task.fate or PoolClosed("the pool was closed while the task waited"))
            elif slot.state is WorkerState.BUSY:
                self._stop(slot, task, Stop.CLOSING, WorkerEvent.CANCEL_REQUESTED)
        self._commands += self.hiring.dismiss_all(self._now)

    def _on_resize(self, event: ResizeRequested) -> None:
        if self.phase is not Phase.CLOSING:
            self._commands += self.hiring.resize(event.workers, self._now)

    def _on_time(self, _: TimePassed) -> None:
        for slot in self.crew.due(self._now):
            self._on_timer(slot)
        self.hiring.let_go_of_the_unneeded(self._now, large_everywhere=self.dispatch.large_everywhere)
        self._commands += self.hiring.reconcile(self._now)

    def _on_timer(self, slot: Slot) -> None:
        if slot.outbox_id is None:
            return  # its pause is over, and `reconcile` starts it
        if slot.state is WorkerState.IDLE:
            self.hiring.grown_old(slot, self._now)
            return
        event = TIMER_EVENTS[slot.state]
        if event is WorkerEvent.DEADLINE_EXPIRED:
            assert slot.task is not None
            self._stop(slot, slot.task, Stop.DEADLINE, event)
            return
        if event is WorkerEvent.START_EXPIRED:
            slot.verdict = f"it was not ready within {self.settings.start_timeout_s:g} s"
        self.crew.apply(slot, event, cause=slot.verdict or "")
        self._commands.append(KillWorker(slot.index))

    # Tasks

    def _on_submitted(self, event: TaskSubmitted) -> None:
        task = self.ledger.enter(event.task_id, self._now)
        if self.phase is not Phase.OPEN:
            self._settle(task, PoolClosed(f"the pool is {self.phase.value}"))
        elif (full := self.admission.submitted(task, event.nbytes)) is not None:
            self._settle(task, full)
        elif event.spec is not None:
            self._take_in(task, event.spec)

    def _on_estimated(self, event: TaskEstimated) -> None:
        task = self.ledger.get(event.task_id)
        if task is not None:
            self._commands += self.admission.estimated(task, event.spec, event.nbytes, self._now)

    def _on_prepared(self, event: TaskPrepared) -> None:
        task = self.ledger.get(event.task_id)
        if task is not None:  # else it has its outcome already: the pool was closed meanwhile
            self._take_in(task, event.spec)

    def _take_in(self, task: TaskRecord, spec: TaskSpec) -> None:
        task.spec = spec
        source = spec.source.block
        if source is not None:
            task.source_block = self.arena.get(source.generation)
            assert task.source_block is not None, "a source's block is held by its caller"
            self.arena.take(task.source_block, Lease(Holder.TASK, task.task_id))
        self._commands += self.admission.enter(task, self._now)

    def _on_identified(self, event: SourceIdentified) -> None:
        self.identification.end(event.task_id)
        task = self.ledger.get(event.task_id)
        if task is None:
            return  # its caller left, or the pool was closed
        if task.fate is None:
            self._commands += self.admission.identified(task, event.digest, self._now)
        else:
            self._commands += self.deaths.identified(task, event.digest)

    def _on_refused(self, event: TaskRefused) -> None:
        task = self.ledger.get(event.task_id)
        if task is not None:
            self._settle(task, event.error)

    def _on_cancelled(self, event: TaskCancelled) -> None:
        task = self.ledger.get(event.task_id)
        if task is None:
            return
        slot = self.crew.maybe_with(task)
        if slot is None:
            self.queue.remove(task.task_id)
            self._settle(task, None)
        elif slot.state is WorkerState.BUSY:
            self._stop(slot, task, Stop.CALLER, WorkerEvent.CANCEL_REQUESTED)
        elif task.stop is None or task.stop is Stop.DEADLINE:
            task.stop = Stop.CALLER  # its end is under way; only the outcome changes

    def _stop(self, slot: Slot, task: TaskRecord, stop: Stop, event: WorkerEvent) -> None:
        task.stop = stop
        self.supply.withdraw(task)
        self.crew.apply(slot, event, self._now + self.settings.grace_s, cause=f"its task is to stop: {stop.value}")
        self._commands.append(Send(slot.index, Cancel(task.task_id)))

    def _settle(self, task: TaskRecord, outcome: Outcome) -> None:
        self._commands += self.ledger.settle(task, outcome)

    def _see_to_the_waiting(self) -> None:
        """Tasks get workers, and those that need a fresh one have it made ready; in a pool that closes, none will come."""
        if self.phase is Phase.CLOSING:
            for task in self.queue.pop_all():
                self._settle(task, PoolClosed("the pool was closed while the task waited"))
        for task in self.queue.expired(self._now):  # whatever woke us: nobody is sent to a worker past its time
            assert task.spec is not None
            self._settle(task, QueueTimeout(task.spec.queue_timeout_s or 0.0, "a worker"))
        if self.queue.earliest <= self._now:
            return  # there are more of them, and the next event is now
        self._commands += self.dispatch.feed(self._now)
        if self.queue and not self.crew.idle:
            self._commands += self.hiring.want_for(len(self.queue), self._now)
        if self.queue.wants_fresh:
            self.hiring.make_room_for_a_fresh_one()
            self._commands += self.hiring.reconcile(self._now)

    # Workers

    def _on_spawned(self, event: WorkerSpawned) -> None:
        slot = self.crew[event.slot]
        slot.pid = event.pid
        self.budget.note_worker(slot, WORKER_NBYTES)

    def _on_reported(self, event: WorkerReported) -> None:
        slot = self.crew[event.slot]
        match event.message:
            case Done() | Failed() as answer:
                self._on_answer(slot, answer)
            case Need() as need:
                self._on_need(slot, need)
            case Ready():
                self._on_ready(slot)

    def _on_ready(self, slot: Slot) -> None:
        if not slot.life.can(WorkerEvent.READY):
            self._condemn(slot, "it said Ready twice")
            return
        if slot.state is WorkerState.RETIRING:
            self.crew.apply(slot, WorkerEvent.READY, slot.timer)
            return
        self.crew.apply(slot, WorkerEvent.READY)
        self._commands += self.hiring.succeeded(slot, self._now)
        assert slot.outbox_id is not None
        self._commands += self.supply.prime(slot.outbox_id, FIRST_GRANT_NBYTES)
        if not self.queue:
            self._commands += self.warmth.welcome(slot)

    def _on_answer(self, slot: Slot, answer: Done | Failed) -> None:
        task = slot.task
        if task is None or task.task_id != answer.task_id or not slot.life.can(WorkerEvent.SETTLED):
            self._condemn(slot, f"it answered for task {answer.task_id}, which it does not have")
            return
        try:
            block = claimed_block(slot, task, answer)
        except ForgedClaim as forged:
            self._condemn(slot, str(forged))
            return
        self.crew.apply(slot, WorkerEvent.SETTLED, slot.old_at)
        slot.task = None
        self._commands += self.answers.settle(slot, task, answer, block)
        self.dispatch.ended(task, answer, self._now, first=slot.tasks == 1)
        self.budget.note_worker(slot, answer.private_bytes)
        if isinstance(answer, Done):
            self._commands += self.warmth.proved(task)
        if self.hiring.answered(slot, answer.private_bytes, self._now):
            self._commands += self.hiring.reconcile(self._now)

    def _on_need(self, slot: Slot, need: Need) -> None:
        try:
            task = checked_need(slot, need)
        except ForgedClaim as forged:
            self._condemn(slot, str(forged))
            return
        if slot.state is WorkerState.BUSY:  # else it is being stopped, and its grace runs
            assert slot.outbox_id is not None
            self._commands += self.supply.request_grant(slot.index, slot.outbox_id, task, need.nbytes)

    def _condemn(self, slot: Slot, reason: str) -> None:
        if slot.state in (WorkerState.FAILED, WorkerState.RETIRING):
            return  # it is condemned or leaving already, and what it says is of no account
        slot.verdict = f"it broke the protocol: {reason}"
        self.crew.apply(slot, WorkerEvent.MISBEHAVED, cause=reason)
        self._commands.append(KillWorker(slot.index))

    def _on_misbehaved(self, event: WorkerMisbehaved) -> None:
        self._condemn(self.crew[event.slot], event.reason)

    def _on_exited(self, event: WorkerExited) -> None:
        slot = self.crew[event.slot]
        if slot.life.can(WorkerEvent.EXITED):
            timer = slot.timer if slot.state is WorkerState.RETIRING else None
            self.crew.apply(slot, WorkerEvent.EXITED, timer, cause="its channel is at its end")
        if slot.state is WorkerState.FAILED:
            self._commands.append(KillWorker(slot.index))  # it closed its channel: alive or not, it is of no use

    def _on_reaped(self, event: WorkerReaped) -> None:
        slot = self.crew[event.slot]
        if not slot.life.can(WorkerEvent.REAPED):
            self.crew.apply(slot, WorkerEvent.EXITED)
        report = report_on(slot, event, self._now)
        never_ready = slot.ready_since is None
        task, outbox_id = slot.task, slot.outbox_id
        assert outbox_id is not None
        begun = task is not None and was_begun(task, event)
        crashed = report.reason is not None or task is None or task.stop is None
        self.budget.note_worker(slot, 0)
        if task is not None:
            slot.task = None
            self.dispatch.ended(task, None, self._now)
            self._commands += self.deaths.bury(slot, task, event, report)
        self.answers.take_back_standing(slot)
        self._commands.append(DropOutbox(outbox_id, self.arena.drop_segment(outbox_id)))
        accepted = begun or slot.tasks > (task is not None)
        self._commands += self.hiring.replace(slot, self._now, report, crashed=crashed, accepted=accepted)
        if self.hiring.hopeless is not None:
            for waiting in self.queue.pop_all():
                self._settle(waiting, self.hiring.hopeless)
        elif never_ready and self.hiring.barren is not None:
            for waiting in self.queue.pop_all_for_fresh():
                self._settle(waiting, self.hiring.barren)

    # Memory

    def _on_input_requested(self, event: InputRequested) -> None:
        task = None if event.task_id is None else self.ledger.get(event.task_id)
        self._commands += self.supply.request_input(event.input_id, event.nbytes, task)
