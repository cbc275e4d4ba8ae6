"""What workers say, and how they end."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

from ..wire.messages import Done, Failed, File, Need, NeedFile, Ready
from .components import Parts
from .memory.budget import WORKER_NBYTES
from .model.commands import Command, DropOutbox, KillWorker, OpenOutput, Send, SendFile
from .model.events import (
    AbandonedWorkerExited,
    OutputOpened,
    WorkerAbandoned,
    WorkerExited,
    WorkerMisbehaved,
    WorkerReaped,
    WorkerReported,
    WorkerSpawned,
)
from .model.settings import FIRST_GRANT_NBYTES
from .model.worker_slot import Slot
from .model.worker_state import WorkerEvent, WorkerState
from .tasks.answer_checks import ForgedClaim, checked_file_need, checked_need, claimed_block
from .tasks.crash_recovery import was_begun
from .tasks.crash_report import report_on

__all__ = ["WorkerEvents"]

_SETTLED = WorkerEvent.SETTLED  # looked up once, as in `crew`
_LEAVING = (WorkerState.RETIRING, WorkerState.TERMINATING)


class WorkerEvents:
    """The handlers of these events."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.handlers: dict[type, Callable[[Any, float], list[Command]]] = {
            WorkerSpawned: self._on_spawned,
            WorkerReported: self._on_reported,
            WorkerMisbehaved: self._on_misbehaved,
            WorkerExited: self._on_exited,
            WorkerReaped: self._on_reaped,
            OutputOpened: self._on_output_opened,
            WorkerAbandoned: self._on_abandoned,
            AbandonedWorkerExited: self._on_abandoned_exited,
        }
        self._on_message: dict[type, Callable[[Slot, Any, float], list[Command]]] = {
            Done: self._on_answer,
            Failed: self._on_answer,
            Need: self._on_need,
            NeedFile: self._on_need_file,
            Ready: self._on_ready,
        }

    def _on_spawned(self, event: WorkerSpawned, _now: float) -> list[Command]:
        slot = self._parts.crew[event.slot]
        slot.pid = event.pid
        self._parts.budget.note_worker(slot, WORKER_NBYTES)
        return []

    def _on_reported(self, event: WorkerReported, now: float) -> list[Command]:
        message = event.message
        return self._on_message[type(message)](self._parts.crew.slots[event.slot], message, now)

    def _on_ready(self, slot: Slot, _: Ready, now: float) -> list[Command]:
        parts = self._parts
        if not slot.life.can(WorkerEvent.READY):
            return self._condemn(slot, "it said Ready twice", now)
        if slot.state in _LEAVING:
            parts.crew.apply(slot, WorkerEvent.READY, slot.timer)
            return []
        parts.crew.apply(slot, WorkerEvent.READY)
        assert slot.outbox_id is not None
        commands = parts.hiring.succeeded(slot, now) + parts.supply.prime(slot.outbox_id, FIRST_GRANT_NBYTES)
        return commands if parts.queue else commands + parts.warmth.welcome(slot)

    def _on_answer(self, slot: Slot, answer: Done | Failed, now: float) -> list[Command]:
        parts, task = self._parts, slot.task
        if task is None or task.task_id != answer.task_id or not slot.life.can(_SETTLED):
            return self._condemn(slot, f"it answered for task {answer.task_id}, which it does not have", now)
        try:
            block = claimed_block(slot, task, answer)
        except ForgedClaim as forged:
            return self._condemn(slot, str(forged), now)
        parts.crew.apply(slot, _SETTLED, slot.old_at)
        slot.task = None
        commands = parts.answers.settle(slot, task, answer, block)
        parts.dispatch.ended(task, answer, now, first=slot.tasks == 1)
        parts.budget.note_worker(slot, answer.private_bytes)
        if isinstance(answer, Done):
            commands += parts.warmth.proved(task)
        if (reason := parts.failure_streaks.answered(slot, answer)) is not None:
            parts.hiring.stop_using(slot, reason)
        if parts.hiring.answered(slot, answer.private_bytes, now):
            commands += parts.hiring.reconcile(now)
        return commands

    def _on_need(self, slot: Slot, need: Need, now: float) -> list[Command]:
        try:
            task = checked_need(slot, need)
        except ForgedClaim as forged:
            return self._condemn(slot, str(forged), now)
        if slot.state is not WorkerState.BUSY:
            return []  # it is being stopped, and its grace runs
        assert slot.outbox_id is not None
        refused = self._parts.supply.request_grant(slot.index, slot.outbox_id, task, need.nbytes, now)
        if not refused:
            self._parts.run_clock.stop(slot, task, now)
        return refused

    def _on_need_file(self, slot: Slot, need: NeedFile, now: float) -> list[Command]:
        try:
            task = checked_file_need(slot, need)
        except ForgedClaim as forged:
            return self._condemn(slot, str(forged), now)
        if slot.state is not WorkerState.BUSY:
            return []  # it is being stopped, and its grace runs
        return [OpenOutput(slot.index, task.task_id, task.dispatches)]

    def _on_output_opened(self, event: OutputOpened, _now: float) -> list[Command]:
        slot = self._parts.crew[event.slot]
        task = slot.task
        if task is None or task.task_id != event.task_id or slot.state is not WorkerState.BUSY:
            return []  # the task has ended, or is being stopped
        if not task.file_dispatch == task.dispatches == event.dispatch:
            return []  # an earlier worker asked, and this one has not, or waits for another file
        task.file_error = event.error
        if event.error is None:
            return [SendFile(slot.index, task.task_id, event.dispatch)]
        return [Send(slot.index, File(task.task_id, opened=False))]

    def _condemn(self, slot: Slot, reason: str, now: float) -> list[Command]:
        if slot.state is WorkerState.FAILED or slot.state in _LEAVING:
            return []  # it is being killed or leaving already, and what it says is of no account
        slot.verdict = f"it broke the protocol: {reason}"
        self._parts.crew.apply(slot, WorkerEvent.MISBEHAVED, self._killed_until(now), cause=reason)
        return [KillWorker(slot.index)]

    def _killed_until(self, now: float) -> float:
        """When a worker that is killed now must be dead."""
        return now + self._parts.settings.kill_timeout_s

    def _on_misbehaved(self, event: WorkerMisbehaved, now: float) -> list[Command]:
        return self._condemn(self._parts.crew[event.slot], event.reason, now)

    def _on_exited(self, event: WorkerExited, now: float) -> list[Command]:
        slot = self._parts.crew[event.slot]
        if slot.life.can(WorkerEvent.EXITED):
            timer = slot.timer if slot.state in _LEAVING else self._killed_until(now)
            self._parts.crew.apply(slot, WorkerEvent.EXITED, timer, cause="its channel is at its end")
        if slot.state is WorkerState.FAILED:
            return [KillWorker(slot.index)]  # it closed its channel: alive or not, it is of no use
        return []

    def _on_reaped(self, event: WorkerReaped, now: float) -> list[Command]:
        slot = self._parts.crew[event.slot]
        if not slot.life.can(WorkerEvent.REAPED):
            self._parts.crew.apply(slot, WorkerEvent.EXITED)
        return self._on_end(slot, event, WorkerEvent.REAPED, now)

    def _on_abandoned(self, event: WorkerAbandoned, now: float) -> list[Command]:
        """The process may go on: what it may write to is held, and counted, until it is dead."""
        slot = self._parts.crew[event.slot]
        reason = f"it could not be killed within {self._parts.settings.kill_timeout_s:g} s"
        if slot.verdict is not None:
            reason = slot.verdict = f"{slot.verdict}; {reason}"
        self._parts.abandoned.add(slot)
        end = WorkerReaped(slot.index, None, reason, event.status, event.stderr_tail)
        return self._on_end(slot, end, WorkerEvent.ABANDONED, now)

    def _on_abandoned_exited(self, event: AbandonedWorkerExited, now: float) -> list[Command]:
        parts = self._parts
        drop = parts.abandoned.remove(event.outbox_id)
        parts.hiring.note_abandoned(len(parts.abandoned), None)
        return [drop, *parts.hiring.reconcile(now)]

    def _on_end(self, slot: Slot, event: WorkerReaped, how: WorkerEvent, now: float) -> list[Command]:
        """A slot's process is dead, or given up."""
        parts = self._parts
        report = report_on(slot, event, now)
        never_ready = slot.ready_since is None
        task, outbox_id = slot.task, slot.outbox_id
        assert outbox_id is not None
        begun = task is not None and was_begun(task, event)
        crashed = report.reason is not None or task is None or task.stop is None
        parts.budget.note_worker(slot, 0)
        commands: list[Command] = []
        if task is not None:
            slot.task = None
            parts.dispatch.ended(task, None, now)
            commands += parts.deaths.bury(slot, task, event, report)
        parts.answers.take_back_standing(slot)
        parts.supply.forget_outbox(outbox_id)
        if how is WorkerEvent.REAPED:
            commands.append(DropOutbox(outbox_id, parts.arena.drop_segment(outbox_id)))
        else:
            parts.hiring.note_abandoned(len(parts.abandoned), report)
        accepted = begun or slot.tasks > (task is not None)
        commands += parts.hiring.replace(slot, now, report, how, crashed=crashed, accepted=accepted)
        return commands + self._give_up_those_in_vain(never_ready=never_ready)

    def _give_up_those_in_vain(self, *, never_ready: bool) -> list[Command]:
        """No worker will come for those who wait, or none that is fresh: they are told."""
        parts, commands = self._parts, list[Command]()
        if parts.hiring.hopeless is not None:
            for waiting in parts.queue.pop_all():
                commands += parts.ledger.settle(waiting, copy(parts.hiring.hopeless))
        elif never_ready and parts.hiring.barren is not None:
            for waiting in parts.queue.pop_all_for_fresh():
                commands += parts.ledger.settle(waiting, copy(parts.hiring.barren))
        return commands
