"""The pool's decisions: `PoolState.handle(event, now)` returns the commands that follow.

This file is the switchboard: what each event means for the workers (`crew`), the memory (`arena`, `supply`), the order
(`queue`) and the outcomes (`outcomes`). `Hiring` keeps the slots filled.

What holds after every event, and is tested as such: a task has at most one worker and gets one outcome; a worker that might
still write to a block holds a lease on it; every slot in a state that can last too long has a timer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..errors import PoolClosed, QueueFull, QueueTimeout
from ..wire.handles import OUTBOX, Handle
from ..wire.messages import Cancel, Done, Failed, Need, Ready, Run
from .arena import Arena, Block, Holder, Lease
from .claims import ForgedClaim, block_nbytes, claimed_block
from .commands import Command, DropOutbox, KillWorker, RefuseInput, Send
from .core_settings import FIRST_GRANT_NBYTES, MAX_NEEDS, CoreSettings
from .crew import TIMER_EVENTS, Crew, Slot
from .events import (
    BlocksReturned,
    CloseRequested,
    Event,
    InputAbandoned,
    InputRequested,
    PagesRefused,
    PagesReserved,
    PoolStarted,
    TaskCancelled,
    TaskPrepared,
    TaskRefused,
    TaskSubmitted,
    TimePassed,
    WorkerExited,
    WorkerMisbehaved,
    WorkerReaped,
    WorkerReported,
)
from .hiring import Hiring
from .ledger import Ledger
from .outcomes import Outcome, of_death, of_failure, of_stop
from .queue import TaskQueue
from .supply import Supply, caller_lease
from .tasks import Completed, Stop, TaskRecord
from .worker_state import WorkerEvent, WorkerState

__all__ = ["PoolState"]


class PoolState:
    """All of a pool's state but the descriptors."""

    def __init__(self, settings: CoreSettings) -> None:
        self.settings = settings
        self.arena = Arena(settings.limit_bytes, settings.inbox_nbytes)
        self.crew = Crew(settings.workers)
        self.queue = TaskQueue()
        self.supply = Supply(self.arena)
        self.ledger = Ledger(self.arena, self.supply)
        self.hiring = Hiring(self.crew, self.arena, settings)
        self._closing = False
        self._now = 0.0
        self._commands: list[Command] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            PoolStarted: self._on_started,
            CloseRequested: self._on_close,
            TimePassed: self._on_time,
            TaskSubmitted: self._on_submitted,
            TaskPrepared: self._on_prepared,
            TaskRefused: self._on_refused,
            TaskCancelled: self._on_cancelled,
            InputRequested: self._on_input_requested,
            InputAbandoned: self._on_input_abandoned,
            BlocksReturned: self._on_returned,
            PagesReserved: self._on_pages_reserved,
            PagesRefused: self._on_pages_refused,
            WorkerReported: self._on_reported,
            WorkerMisbehaved: self._on_misbehaved,
            WorkerExited: self._on_exited,
            WorkerReaped: self._on_reaped,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take in one fact; return what is to be done about it, in order. `now` is in seconds and never goes back."""
        self._now = now
        self._handlers[type(event)](event)
        if self.supply.anyone_waits:
            self._commands += self.supply.serve(self.crew.running)
        commands, self._commands = self._commands, []
        return commands

    @property
    def wake_at(self) -> float:
        """When `TimePassed` is wanted, at the latest; infinity if there is nothing to wait for."""
        return min(self.crew.earliest, self.queue.earliest)

    @property
    def gone(self) -> bool:
        """No process is left and none will come."""
        return self.crew.count(WorkerState.GONE) == len(self.crew.slots)

    @property
    def closing(self) -> bool:
        return self._closing

    @property
    def preparing(self) -> int:
        """Tasks whose source is still on its way."""
        return len(self.ledger) - len(self.queue) - self.crew.running

    def can_run_in(self, outbox_id: int) -> bool:
        """Whether a task whose source lies in that outbox could start this moment, with its source where it lies."""
        return self.crew.maybe_idle(outbox_id) is not None

    # The pool's own life

    def _on_started(self, _: PoolStarted) -> None:
        for slot in self.crew.slots:
            self._commands += self.hiring.start(slot, self._now)

    def _on_close(self, _: CloseRequested) -> None:
        self._closing = True
        self._commands += self.supply.close()
        for task in self.ledger:
            slot = self._slot_of(task)
            if slot is None:
                self.queue.remove(task.task_id)
                self._settle(task, PoolClosed("the pool was closed while the task waited"))
            elif slot.state is WorkerState.BUSY:
                self._stop(slot, task, Stop.CLOSING, WorkerEvent.CANCEL_REQUESTED)
        for slot in self.crew.slots:
            self._retire_if_possible(slot)

    def _on_time(self, _: TimePassed) -> None:
        for task in self.queue.expired(self._now):
            assert task.spec is not None
            self._settle(task, QueueTimeout(task.spec.queue_timeout_s or 0.0, "a worker"))
        for slot in self.crew.due(self._now):
            self._on_timer(slot)

    def _on_timer(self, slot: Slot) -> None:
        if slot.state is WorkerState.RESTARTING and slot.outbox_id is None:
            self._commands += self.hiring.start(slot, self._now)
            return
        event = TIMER_EVENTS[slot.state]
        if event is WorkerEvent.DEADLINE_EXPIRED:
            assert slot.task is not None
            self._stop(slot, slot.task, Stop.DEADLINE, event)
            return
        if event is WorkerEvent.START_EXPIRED:
            slot.verdict = f"it was not ready within {self.settings.start_timeout_s:g} s"
        self.crew.apply(slot, event)
        self._commands.append(KillWorker(slot.index))

    # Tasks

    def _on_submitted(self, event: TaskSubmitted) -> None:
        limit = self.settings.max_queue
        waiting = 0 if limit is None else len(self.queue) + self.preparing - self.crew.idle
        task = self.ledger.enter(event.task_id, self._now)
        if self._closing:
            self._settle(task, PoolClosed())
        elif limit is not None and waiting >= limit:
            self._settle(task, QueueFull(max(waiting, 0), limit))

    def _on_prepared(self, event: TaskPrepared) -> None:
        task = self.ledger.get(event.task_id)
        if task is None:
            return  # it has its outcome already: the pool was closed meanwhile
        task.spec = event.spec
        source = event.spec.source.block
        if source is not None:
            task.source_block = self.arena.get(source.generation)
            assert task.source_block is not None, "a source's block is held by its caller"
            self.arena.take(task.source_block, Lease(Holder.TASK, task.task_id))
        slot = self.crew.maybe_idle(event.spec.outbox_id)
        if slot is not None:
            self._dispatch(slot, task)
        else:
            assert event.spec.outbox_id is None, "the host asked can_run_in before"
            timeout = event.spec.queue_timeout_s
            self.queue.push(task, None if timeout is None else task.submitted_at + timeout)

    def _on_refused(self, event: TaskRefused) -> None:
        task = self.ledger.get(event.task_id)
        if task is not None:
            self._settle(task, event.error)

    def _on_cancelled(self, event: TaskCancelled) -> None:
        task = self.ledger.get(event.task_id)
        if task is None:
            return
        slot = self._slot_of(task)
        if slot is None:
            self.queue.remove(task.task_id)
            self._settle(task, None)
        elif slot.state is WorkerState.BUSY:
            self._stop(slot, task, Stop.CALLER, WorkerEvent.CANCEL_REQUESTED)
        elif task.stop is None or task.stop is Stop.DEADLINE:
            task.stop = Stop.CALLER  # its end is under way; only the outcome changes

    def _dispatch(self, slot: Slot, task: TaskRecord) -> None:
        spec = task.spec
        assert spec is not None
        assert slot.outbox_id is not None
        timer = None if spec.timeout_s is None else self._now + spec.timeout_s
        self.crew.apply(slot, WorkerEvent.DISPATCHED, timer)
        slot.task = task
        task.dispatches += 1
        grant: Handle | None = None  # what it was granted before and has not used is still the worker's
        if slot.standing is None:
            slot.standing = self.supply.maybe_grant_standing(slot.outbox_id, FIRST_GRANT_NBYTES)
            if slot.standing is not None:
                grant = Handle(OUTBOX, slot.standing.offset, FIRST_GRANT_NBYTES, slot.standing.generation)
        run = Run(task.task_id, spec.source, spec.stages, grant, spec.destination, spec.temporary)
        self._commands.append(Send(slot.index, run))

    def _stop(self, slot: Slot, task: TaskRecord, stop: Stop, event: WorkerEvent) -> None:
        task.stop = stop
        self.supply.withdraw(task)
        self.crew.apply(slot, event, self._now + self.settings.grace_s)
        self._commands.append(Send(slot.index, Cancel(task.task_id)))

    def _slot_of(self, task: TaskRecord) -> Slot | None:
        return next((slot for slot in self.crew.slots if slot.task is task), None)

    def _settle(self, task: TaskRecord, outcome: Outcome) -> None:
        self._commands += self.ledger.settle(task, outcome)

    # Workers

    def _on_reported(self, event: WorkerReported) -> None:
        slot = self.crew.slots[event.slot]
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
            slot.life.apply(WorkerEvent.READY)
            return
        self.crew.apply(slot, WorkerEvent.READY)
        self._commands += self.hiring.succeeded(slot, self._now)
        assert slot.outbox_id is not None
        self._commands += self.supply.prime(slot.outbox_id, FIRST_GRANT_NBYTES)
        self._feed(slot)

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
        self.crew.apply(slot, WorkerEvent.SETTLED)
        slot.task = None
        self._settle_by_answer(slot, task, answer, block)
        self._feed(slot)

    def _settle_by_answer(self, slot: Slot, task: TaskRecord, answer: Done | Failed, block: Block | None) -> None:
        if block is not None:
            self.arena.take(block, caller_lease(block))
            if block is slot.standing:
                self._take_back_standing(slot)
        if task.stop is not None:
            outcome = of_stop(task, obeyed=True)
        elif isinstance(answer, Failed):
            outcome = of_failure(task, answer)
        else:
            outcome = Completed(answer.output, block, answer.info, answer.started_ns, answer.finished_ns)
        if block is not None and isinstance(outcome, Completed):
            self.arena.shrink(block, block_nbytes(outcome.output))
        elif block is not None:
            self.arena.release(block, caller_lease(block))  # nobody gets it: it came too late
        self._settle(task, outcome)

    def _take_back_standing(self, slot: Slot) -> None:
        if slot.standing is not None:
            self.arena.release(slot.standing, Lease(Holder.STANDING, slot.standing.segment_id))
            slot.standing = None

    def _on_need(self, slot: Slot, need: Need) -> None:
        task = slot.task
        if task is None or task.task_id != need.task_id or task.needed_bytes is not None or need.nbytes < 1:
            self._condemn(slot, f"it asked for {need.nbytes} bytes for task {need.task_id} out of turn")
            return
        task.needs += 1
        if task.needs > MAX_NEEDS:
            self._condemn(slot, f"it asked for memory more than {MAX_NEEDS:,} times for one task")
            return
        if slot.state is not WorkerState.BUSY:
            return  # it is being stopped, and its grace runs
        assert slot.outbox_id is not None
        self._commands += self.supply.request_grant(slot.index, slot.outbox_id, task, need.nbytes)

    def _feed(self, slot: Slot) -> None:
        """An idle worker: the next task, or the way out."""
        if self.queue and not self._closing:
            self._dispatch(slot, self.queue.pop())
        else:
            self._retire_if_possible(slot)

    def _retire_if_possible(self, slot: Slot) -> None:
        if self._closing and slot.life.can(WorkerEvent.RETIREMENT_REQUESTED):
            self._commands += self.hiring.retire(slot, self._now)

    def _condemn(self, slot: Slot, reason: str) -> None:
        if slot.state in (WorkerState.FAILED, WorkerState.RETIRING):
            return  # it is condemned or leaving already, and what it says is of no account
        slot.verdict = f"it broke the protocol: {reason}"
        self.crew.apply(slot, WorkerEvent.MISBEHAVED)
        self._commands.append(KillWorker(slot.index))

    def _on_misbehaved(self, event: WorkerMisbehaved) -> None:
        self._condemn(self.crew.slots[event.slot], event.reason)

    def _on_exited(self, event: WorkerExited) -> None:
        slot = self.crew.slots[event.slot]
        if slot.life.can(WorkerEvent.EXITED):
            self.crew.apply(slot, WorkerEvent.EXITED, slot.timer if slot.state is WorkerState.RETIRING else None)
        if slot.state is WorkerState.FAILED:
            self._commands.append(KillWorker(slot.index))  # it closed its channel: alive or not, it is of no use

    def _on_reaped(self, event: WorkerReaped) -> None:
        slot = self.crew.slots[event.slot]
        if not slot.life.can(WorkerEvent.REAPED):
            self.crew.apply(slot, WorkerEvent.EXITED)
        assert slot.outbox_id is not None
        outbox_id, slot.outbox_id = slot.outbox_id, None
        task, slot.task = slot.task, None
        reason = slot.verdict or event.reason
        if task is not None:
            self._bury(slot, task, event, reason)
        self._take_back_standing(slot)
        self._commands.append(DropOutbox(outbox_id, self.arena.drop_segment(outbox_id)))
        if self._closing and slot.life.can(WorkerEvent.RETIREMENT_REQUESTED):
            self.crew.apply(slot, WorkerEvent.RETIREMENT_REQUESTED)
        self._commands += self.hiring.replace(slot, self._now, event.exit_code, reason, event.stderr_tail)
        if self.hiring.hopeless is not None:
            while self.queue:
                self._settle(self.queue.pop(), self.hiring.hopeless)

    def _bury(self, slot: Slot, task: TaskRecord, event: WorkerReaped, reason: str | None) -> None:
        """Settle the task that a dead worker had: by its last words, or by its death, unless it had never begun."""
        for message in event.last_words if reason is None else ():
            if isinstance(message, Done | Failed) and message.task_id == task.task_id:
                with suppress(ForgedClaim):
                    self._settle_by_answer(slot, task, message, claimed_block(slot, task, message))
                    return
        assert task.spec is not None
        begun = event.status is None or event.status.task_id == task.task_id
        if begun or reason or task.stop or task.dispatches > 1 or task.spec.outbox_id is not None:
            self._settle(task, of_death(task, event.exit_code, reason, event.status, event.stderr_tail))
            return
        self.ledger.end_grants(task)
        idle = self.crew.maybe_idle()
        if self._closing:
            self._settle(task, PoolClosed("the pool was closed while the task waited"))
        elif idle is not None:
            self._dispatch(idle, task)
        else:
            self.queue.push_front(task)

    # Memory

    def _on_input_requested(self, event: InputRequested) -> None:
        if self._closing:
            self._commands.append(RefuseInput(event.input_id, PoolClosed()))
        else:
            self._commands += self.supply.request_input(event.input_id, event.nbytes)

    def _on_input_abandoned(self, event: InputAbandoned) -> None:
        self.supply.abandon_input(event.input_id)

    def _on_returned(self, event: BlocksReturned) -> None:
        for generation in event.generations:
            block = self.arena.get(generation)
            assert block is not None, "a block is known while its caller holds it"
            self.arena.release(block, caller_lease(block))

    def _on_pages_reserved(self, event: PagesReserved) -> None:
        self._commands += self.supply.pages_reserved(event.reservation)

    def _on_pages_refused(self, event: PagesRefused) -> None:
        self.supply.pages_refused(event.reservation, event.free_bytes)
