"""Handlers of events for workers: their messages, violations of the protocol, and exits."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any, Final

from ..wire.messages import Done, Failed, File, Loading, Need, NeedFile, Output, OutputFailed, Ready, Skipped
from .components import Components
from .delivery_events import DeliveryEventHandlers
from .memory.budget import DEFAULT_WORKER_NBYTES
from .model.commands import Command, DropOutbox, KillWorker, OpenOutput, Send, SendFile
from .model.events import (
    AbandonedWorkerExited,
    OutputOpened,
    RunsWithdrawn,
    WorkerAbandoned,
    WorkerDisconnected,
    WorkerExited,
    WorkerReported,
    WorkerSpawned,
    WorkerViolatedProtocol,
)
from .model.pool_phase import PoolPhase
from .model.settings import FIRST_GRANT_NBYTES, KEPT_INBOX_NBYTES
from .model.task import StopReason
from .model.task_record import TaskRecord
from .model.task_state import TaskEvent, TaskState
from .model.worker_slot import WorkerSlot
from .model.worker_state import WorkerEvent, WorkerState
from .tasks.answer_checks import InvalidHandle, validate_answer, validate_file_request, validate_output, validate_request
from .tasks.crash_recovery import was_begun
from .tasks.crash_report import build_crash_report
from .tasks.outcomes import outcome_of_stop
from .workers.worker_group import WorkerGroup

__all__ = ["WorkerEventHandlers"]

_TASK_FINISHED: Final = WorkerEvent.TASK_FINISHED  # a member that is looked up on its class costs 0.1 us on Python 3.11
_NEXT_BEGUN: Final = WorkerEvent.NEXT_BEGUN
_CLOSING: Final = PoolPhase.CLOSING
_LEAVING = (WorkerState.RETIRING, WorkerState.TERMINATING)


class WorkerEventHandlers:
    """Handlers by type of event, and of message."""

    def __init__(
        self,
        components: Components,
        stop: Callable[[WorkerSlot, TaskRecord, StopReason, WorkerEvent, float], list[Command]],
        deliveries: DeliveryEventHandlers,
    ) -> None:
        """`stop`: tells the worker that runs a task to stop it."""
        self._deliveries = deliveries
        self._components = components
        self._stop = stop
        self.handlers: dict[type, Callable[[Any, float], list[Command]]] = {
            WorkerSpawned: self._on_spawned,
            WorkerReported: self._on_reported,
            RunsWithdrawn: self._on_runs_withdrawn,
            WorkerViolatedProtocol: self._on_protocol_violated,
            WorkerDisconnected: self._on_disconnected,
            WorkerExited: self._on_exited,
            OutputOpened: self._on_output_opened,
            WorkerAbandoned: self._on_abandoned,
            AbandonedWorkerExited: self._on_abandoned_exited,
        }
        self._on_message: dict[type, Callable[[WorkerSlot, Any, float], list[Command]]] = {
            Done: self._on_answer,
            Failed: self._on_answer,
            Need: self._on_need,
            NeedFile: self._on_need_file,
            Output: self._on_output,
            OutputFailed: self._on_output,
            Loading: self._on_loading,
            Ready: self._on_ready,
            Skipped: self._on_skipped,
        }

    def _on_spawned(self, event: WorkerSpawned, _now: float) -> list[Command]:
        slot = self._components.worker_table[event.slot]
        slot.pid = event.pid
        self._components.budget.set_worker_memory(slot, DEFAULT_WORKER_NBYTES)
        return []

    def _on_reported(self, event: WorkerReported, now: float) -> list[Command]:
        message, slot = event.message, self._components.worker_table.slots[event.slot]
        commands = self._on_message[type(message)](slot, message, now)
        for answer in event.more:
            commands += self._on_answer(slot, answer, now)
        return commands

    def _on_loading(self, slot: WorkerSlot, _: Loading, now: float) -> list[Command]:
        components = self._components
        if not slot.state_machine.can(WorkerEvent.LOADING_BEGUN):
            return self._terminate(slot, "it said Loading twice", now)
        timer = slot.timer if slot.state in _LEAVING else now + components.groups.by_name[slot.group].settings.load_timeout_s
        components.worker_table.apply(slot, WorkerEvent.LOADING_BEGUN, now, timer)
        return []

    def _on_ready(self, slot: WorkerSlot, ready: Ready, now: float) -> list[Command]:
        components = self._components
        if not slot.state_machine.can(WorkerEvent.READY):
            return self._terminate(slot, "it said Ready before Loading, or twice", now)
        if unknown := set(ready.failed) - set(slot.plugins):
            return self._terminate(slot, f"it failed to load {len(unknown)} plugins that it was not to load", now)
        group = components.groups.by_name[slot.group]
        if objection := group.sandbox_reports.find_objection(ready.sandbox):
            return self._kill(slot, objection, objection, now)
        if slot.state in _LEAVING:
            components.worker_table.apply(slot, WorkerEvent.READY, now, slot.timer)
            return []
        components.worker_table.apply(slot, WorkerEvent.READY, now)
        slot.queues_runs = ready.queues_runs
        assert slot.outbox_id is not None
        group.sandbox_reports.on_worker_ready(ready.sandbox, now)
        group.plugin_loads.on_worker_ready(slot, ready.failed, now)
        if ready.private_bytes > 0:
            components.budget.set_worker_memory(slot, ready.private_bytes)
        group.recycling.on_worker_ready(slot, now)
        return components.groups.on_worker_ready(slot, now) + components.broker.prefetch(slot.outbox_id, FIRST_GRANT_NBYTES)

    def _on_answer(self, slot: WorkerSlot, answer: Done | Failed, now: float) -> list[Command]:
        components, task = self._components, slot.task
        if task is None or task.task_id != answer.task_id or not slot.state_machine.can(_TASK_FINISHED):
            return self._terminate(slot, f"it answered for task {answer.task_id}, which it does not have", now)
        try:
            block = validate_answer(slot, task, answer)
        except InvalidHandle as error:
            return self._terminate(slot, str(error), now)
        if task.run_number > slot.withdrawn_to:
            slot.withdrawn_to = 0
        if not slot.sent:
            components.worker_table.apply(slot, _TASK_FINISHED, now, slot.expires_at)
        slot.task = None
        commands = components.completion.settle(slot, task, answer, block)
        components.dispatcher.task_ended(task, answer, now, first=slot.tasks == 1)
        if slot.sent:
            commands += self._begin_next(slot, now)
        if task.copy_bytes > slot.inbox_bytes:
            slot.inbox_bytes = min(task.copy_bytes, KEPT_INBOX_NBYTES)
            if task.copy_bytes > KEPT_INBOX_NBYTES + slot.excess_bytes:
                components.budget.set_excess(slot, task.copy_bytes - KEPT_INBOX_NBYTES)
        components.budget.set_worker_memory(slot, answer.private_bytes + slot.inbox_bytes)
        group = components.groups.by_name[slot.group]
        group.recycling.on_task_answered(slot, answer, now)
        if group.reconciler.on_task_answered(slot):
            commands += group.reconciler.reconcile(now)
        if slot.sent and slot.recycling is not None:
            commands += components.dispatcher.sent_tasks.withdraw(slot)
        return commands

    def _begin_next(self, slot: WorkerSlot, now: float) -> list[Command]:
        """A worker has answered for its task, and has begun the next one that was sent to it."""
        components = self._components
        task = components.dispatcher.begin_next(slot, now)
        assert task is not None
        limit_s = task.limit_s
        components.worker_table.apply(slot, _NEXT_BEGUN, now, None if limit_s is None else now + limit_s)
        if task.stop is not None:
            return self._stop(slot, task, task.stop, WorkerEvent.CANCEL_REQUESTED, now)
        if components.phase is _CLOSING:
            return self._stop(slot, task, StopReason.CLOSING, WorkerEvent.CANCEL_REQUESTED, now)
        return []

    def _on_skipped(self, slot: WorkerSlot, message: Skipped, now: float) -> list[Command]:
        components, task = self._components, slot.task
        if task is None or task.run_number != message.number:
            return (
                []
                if message.number <= slot.withdrawn_to
                else self._terminate(slot, "it skipped a task that it does not have", now)
            )
        if task.run_number <= slot.sent_when_idle or not slot.state_machine.can(_TASK_FINISHED):
            return self._terminate(slot, "it skipped a task that was sent to it alone", now)
        slot.task = None
        slot.take_back(1)
        task.was_skipped = True
        components.budget.discharge(task)
        commands: list[Command] = []
        if task.stop is not None:
            commands += components.task_table.settle(task, outcome_of_stop(task, obeyed=True))
        else:
            components.task_table.release_worker_blocks(task)
            task.apply(TaskEvent.RETRIED)
            task.dispatches -= 1
            components.queue.requeue_first(task)
        if slot.sent:
            return commands + self._begin_next(slot, now)
        components.worker_table.apply(slot, _TASK_FINISHED, now, slot.expires_at)
        return commands + components.groups.by_name[slot.group].reconciler.reconcile(now)

    def _on_runs_withdrawn(self, event: RunsWithdrawn, _now: float) -> list[Command]:
        slot = self._components.worker_table.slots.get(event.slot)
        if slot is None or slot.outbox_id != event.outbox_id:
            return []  # the worker is dead, and its tasks have been taken from it
        return self._requeue(self._components.dispatcher.sent_tasks.withdrawn(slot, event.kept_to))

    def _requeue(self, tasks: list[TaskRecord]) -> list[Command]:
        """Queue tasks that a worker had and has not begun, as the first ones. The unwanted ones are settled."""
        components, commands = self._components, list[Command]()
        for task in tasks:
            if task.state is TaskState.UNWANTED:
                commands += components.task_table.settle(task, None)
            else:
                components.queue.requeue_first(task)
        return commands

    def _on_output(self, slot: WorkerSlot, message: Output | OutputFailed, now: float) -> list[Command]:
        try:
            task, block = validate_output(slot, slot.task, message)
        except InvalidHandle as error:
            return self._terminate(slot, str(error), now)
        commands = self._components.completion.deliver(slot, task, message, block)
        self._components.run_clock.restart(slot, task, now)
        return commands

    def _on_need(self, slot: WorkerSlot, need: Need, now: float) -> list[Command]:
        try:
            task = validate_request(slot, need)
        except InvalidHandle as error:
            return self._terminate(slot, str(error), now)
        if slot.state is not WorkerState.BUSY:
            return []  # the worker was told to stop, and its grace period runs
        assert slot.outbox_id is not None
        refused = self._components.broker.request_output(slot.index, slot.outbox_id, task, need.nbytes, now)
        if not refused:
            self._components.run_clock.pause(slot, task, now)
        return refused

    def _on_need_file(self, slot: WorkerSlot, need: NeedFile, now: float) -> list[Command]:
        try:
            task = validate_file_request(slot, need)
        except InvalidHandle as error:
            return self._terminate(slot, str(error), now)
        if slot.state is not WorkerState.BUSY:
            return []  # the worker was told to stop, and its grace period runs
        return [OpenOutput(slot.index, task.task_id, task.dispatches)]

    def _on_output_opened(self, event: OutputOpened, _now: float) -> list[Command]:
        slot = self._components.worker_table[event.slot]
        task = slot.task
        if task is None or task.task_id != event.task_id or slot.state is not WorkerState.BUSY:
            return []  # the task has ended, or is being stopped
        if not task.file_dispatch == task.dispatches == event.dispatch:
            return []  # an earlier worker asked, and this one has not, or waits for another file
        task.file_error = event.error
        if event.error is None:
            return [SendFile(slot.index, task.task_id, event.dispatch)]
        return [Send(slot.index, File(task.task_id, opened=False))]

    def _terminate(self, slot: WorkerSlot, violation: str, now: float) -> list[Command]:
        return self._kill(slot, f"it broke the protocol: {violation}", violation, now)

    def _kill(self, slot: WorkerSlot, reason: str, cause: str, now: float) -> list[Command]:
        """Kill a worker because of a message, unless it is being killed or retires, so that its messages do not matter."""
        if slot.state is WorkerState.FAILED or slot.state in _LEAVING:
            return []
        slot.kill_reason = reason
        self._components.worker_table.apply(slot, WorkerEvent.PROTOCOL_VIOLATED, now, self._kill_deadline(now), cause=cause)
        return [KillWorker(slot.index), *self._components.dispatcher.sent_tasks.withdraw(slot)]

    def _kill_deadline(self, now: float) -> float:
        """Return the time at which a worker that is killed now must be dead."""
        return now + self._components.settings.kill_timeout_s

    def _on_protocol_violated(self, event: WorkerViolatedProtocol, now: float) -> list[Command]:
        return self._terminate(self._components.worker_table[event.slot], event.reason, now)

    def _on_disconnected(self, event: WorkerDisconnected, now: float) -> list[Command]:
        slot = self._components.worker_table[event.slot]
        if slot.state_machine.can(WorkerEvent.DISCONNECTED):
            timer = slot.timer if slot.state in _LEAVING else self._kill_deadline(now)
            self._components.worker_table.apply(slot, WorkerEvent.DISCONNECTED, now, timer, cause="its channel is at its end")
        if slot.state is WorkerState.FAILED:  # without its channel a worker is of no use, even if it is alive
            return [KillWorker(slot.index), *self._components.dispatcher.sent_tasks.withdraw(slot)]
        return []

    def _on_exited(self, event: WorkerExited, now: float) -> list[Command]:
        slot = self._components.worker_table[event.slot]
        if not slot.state_machine.can(WorkerEvent.EXITED):
            self._components.worker_table.apply(slot, WorkerEvent.DISCONNECTED, now)
        return self._on_end(slot, event, WorkerEvent.EXITED, now)

    def _on_abandoned(self, event: WorkerAbandoned, now: float) -> list[Command]:
        """Give up a process that may go on: the blocks that it may write to stay leased and counted until its exit."""
        slot = self._components.worker_table[event.slot]
        reason = f"it could not be killed within {self._components.settings.kill_timeout_s:g} s"
        if slot.kill_reason is not None:
            reason = slot.kill_reason = f"{slot.kill_reason}; {reason}"
        self._components.abandoned.add(slot)
        end = WorkerExited(slot.index, None, reason, event.status, event.stderr_tail)
        return self._on_end(slot, end, WorkerEvent.ABANDONED, now)

    def _on_abandoned_exited(self, event: AbandonedWorkerExited, now: float) -> list[Command]:
        components = self._components
        group = components.groups.by_name[components.abandoned.group_of(event.outbox_id)]
        drop = components.abandoned.remove(event.outbox_id)
        group.reconciler.note_abandoned(components.abandoned.count(group.name), None)
        return [drop, *group.reconciler.reconcile(now)]

    def _on_end(self, slot: WorkerSlot, event: WorkerExited, cause: WorkerEvent, now: float) -> list[Command]:
        """Handle the end of a slot's process, which is dead (EXITED) or given up (ABANDONED)."""
        components, group = self._components, self._components.groups.by_name[slot.group]
        never_ready = slot.ready_since is None
        loading = group.plugin_loads.find_loading(slot, event.status) if never_ready else None
        commands = [] if slot.receiving is None else self._deliveries.requeue(slot.receiving, now)
        if slot.sent and slot.kill_reason is None:
            commands += self._take_answers(slot, event, now)
        report = build_crash_report(slot, event, now, loading)
        task, outbox_id = slot.task, slot.outbox_id
        assert outbox_id is not None
        begun = task is not None and was_begun(task, event)
        crashed = report.reason is not None or task is None or task.stop is None
        components.budget.set_worker_memory(slot, 0)
        components.budget.set_excess(slot, 0)
        while (ended := slot.task) is not None:
            slot.task = None
            components.dispatcher.task_ended(ended, None, now)
            commands += components.crash_recovery.recover(slot, ended, event, report, now)
            if any(was_begun(sent, event) for sent in slot.sent):  # possible if an answer before it cannot be trusted
                components.dispatcher.begin_next(slot, now)
        unbegun = components.dispatcher.sent_tasks.take_all(slot)
        commands += self._requeue(unbegun)
        components.completion.release_preallocated(slot)
        components.broker.forget_outbox(outbox_id)
        if cause is WorkerEvent.EXITED:
            commands.append(DropOutbox(outbox_id, components.arena.drop_segment(outbox_id)))
        else:
            group.reconciler.note_abandoned(components.abandoned.count(group.name), report)
        accepted = begun or slot.tasks > (task is not None) + len(unbegun)
        if loading is not None and group.plugin_loads.on_death(loading, report.cause, now):
            commands += self._refuse_tasks_of_switched_off_plugins()
            for other in components.groups:
                if other.plugin_loads is group.plugin_loads:
                    other.reconciler.forgive_failed_starts()  # because their cause is removed
        commands += components.groups.replace(slot, now, report, cause, crashed=crashed, accepted=accepted)
        return commands + self._fail_unservable_tasks(group, never_ready=never_ready)

    def _take_answers(self, slot: WorkerSlot, event: WorkerExited, now: float) -> list[Command]:
        """Settle the tasks that a dead worker has answered for before the last one that it had begun."""
        commands: list[Command] = []
        components = self._components
        for message in event.last_words:
            task = slot.task
            if not isinstance(message, Done | Failed) or task is None or task.task_id != message.task_id or not slot.sent:
                continue
            try:
                block = validate_answer(slot, task, message)
            except InvalidHandle:
                break
            slot.task = None
            commands += components.completion.settle(slot, task, message, block)
            components.dispatcher.task_ended(task, message, now)
            components.dispatcher.begin_next(slot, now)
        return commands

    def _refuse_tasks_of_switched_off_plugins(self) -> list[Command]:
        components, commands = self._components, list[Command]()
        for task in components.task_table:
            refusal = components.groups.by_name[task.spec.group].plugin_loads.refusal(task.spec)
            if refusal is not None and task.state is TaskState.WAITING:
                components.queue.remove(task.task_id)
                commands += components.task_table.settle(task, refusal)
        return commands

    def _fail_unservable_tasks(self, group: WorkerGroup, *, never_ready: bool) -> list[Command]:
        """Settle the waiting tasks of a group for which no worker, or no unused worker, can be started."""
        components, commands = self._components, list[Command]()
        lane, reconciler = components.queue.lanes.get(group.name), group.reconciler
        if lane is None:
            return commands
        if reconciler.unavailable_error is not None:
            for waiting in components.queue.pop_all([lane]):
                commands += components.task_table.settle(waiting, copy(reconciler.unavailable_error))
        elif never_ready and reconciler.start_error is not None:
            for waiting in components.queue.pop_all_for_unused_worker([lane]):
                commands += components.task_table.settle(waiting, copy(reconciler.start_error))
        return commands
