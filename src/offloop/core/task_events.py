"""Handlers of events for tasks without a worker, memory requests, and cancellations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..errors import PoolClosed
from ..wire.handles import Handle
from ..wire.messages import Cancel, Credit
from .components import Components
from .delivery_events import DeliveryEventHandlers
from .memory.output_grants import grant_next_outputs
from .model.blocks import CALLER_MEMORY, Holder, Lease
from .model.commands import Command, Send
from .model.events import (
    CreditGranted,
    GrowthRequested,
    InputCompleted,
    InputRequested,
    SourceHashed,
    SourceMemoryRequested,
    StagingFailed,
    TaskCancelled,
    TaskEstimated,
    TaskStaged,
    TaskSubmitted,
)
from .model.pool_phase import PoolPhase
from .model.task import StopReason, TaskSpec
from .model.task_record import TaskRecord
from .model.task_state import TaskEvent, TaskState
from .model.worker_slot import WorkerSlot
from .model.worker_state import WorkerEvent, WorkerState

__all__ = ["TaskEventHandlers"]

_OPEN: Final = PoolPhase.OPEN  # a member that is looked up on its class costs 0.1 us on Python 3.11


class TaskEventHandlers:
    """Handlers by type of event."""

    def __init__(self, components: Components, deliveries: DeliveryEventHandlers) -> None:
        self._components = components
        self._deliveries = deliveries
        self.handlers: dict[type, Callable[[Any, float], list[Command]]] = {
            TaskSubmitted: self._on_submitted,
            TaskEstimated: self._on_estimated,
            SourceMemoryRequested: self._on_source_memory_requested,
            InputRequested: self._on_input_requested,
            GrowthRequested: self._on_growth_requested,
            InputCompleted: self._on_input_completed,
            TaskStaged: self._on_staged,
            StagingFailed: self._on_staging_failed,
            SourceHashed: self._on_hashed,
            TaskCancelled: self._on_cancelled,
            CreditGranted: self._on_credit_granted,
        }

    def stop(self, slot: WorkerSlot, task: TaskRecord, stop: StopReason, event: WorkerEvent, now: float) -> list[Command]:
        """Tell the worker that has the task to stop it. The grace period starts."""
        grace_ends_at = now + self._components.settings.grace_s
        self._mark_as_stopping(task, stop, now)
        self._components.worker_table.apply(slot, event, now, grace_ends_at, cause=f"its task is to stop: {stop.value}")
        return [Send(slot.index, Cancel(task.task_id)), *self._components.dispatcher.sent_tasks.withdraw(slot)]

    def _mark_as_stopping(self, task: TaskRecord, stop: StopReason, now: float) -> None:
        """The task gets no more result memory, and its run clock stands still no more."""
        task.apply(TaskEvent.STOP_REQUESTED)
        task.stop = stop
        self._components.broker.cancel_output_request(task)
        self._components.run_clock.end_wait(task, now)

    def _on_submitted(self, event: TaskSubmitted, now: float) -> list[Command]:
        components = self._components
        task = components.task_table.add(event.task_id, event.spec, now)
        if components.phase is not _OPEN:
            return components.task_table.settle(task, PoolClosed(f"the pool is {components.phase.value}"))
        refusal = components.admission.submitted(task, event.nbytes)
        if refusal is not None:
            return components.task_table.settle(task, refusal)
        if event.copy_nbytes:
            return self._request_source_memory(task, event.copy_nbytes, now)
        return self._enqueue(task, event.spec, now) if event.staged else []

    def _on_estimated(self, event: TaskEstimated, now: float) -> list[Command]:
        task = self._components.task_table.get(event.task_id)
        if task is None:
            return []
        refused = self._components.admission.estimated(task, event.spec, event.nbytes, now)
        return refused if refused or not event.copy_nbytes else self._request_source_memory(task, event.copy_nbytes, now)

    def _on_source_memory_requested(self, event: SourceMemoryRequested, now: float) -> list[Command]:
        task = self._components.task_table.get(event.task_id)
        return [] if task is None else self._request_source_memory(task, event.nbytes, now)

    def _request_source_memory(self, task: TaskRecord, nbytes: int, now: float) -> list[Command]:
        error = self._components.broker.request_source_memory(task, nbytes, now)
        return [] if error is None else self._components.task_table.settle(task, error)

    def _on_input_requested(self, event: InputRequested, now: float) -> list[Command]:
        return self._components.broker.request_input(
            event.input_id, event.nbytes, addresses_bytes=event.addresses_bytes, now=now
        )

    def _on_growth_requested(self, event: GrowthRequested, now: float) -> list[Command]:
        return self._components.broker.request_growth(event.input_id, event.generation, event.nbytes, event.wanted_nbytes, now)

    def _on_input_completed(self, event: InputCompleted, _now: float) -> list[Command]:
        self._components.broker.complete_input(event.generation, event.nbytes)
        return []

    def _on_staged(self, event: TaskStaged, now: float) -> list[Command]:
        self._components.broker.input_queue.end_staging(event.task_id)
        task = self._components.task_table.get(event.task_id)
        if task is None:
            return []  # the task was settled because the pool was closed
        return self._enqueue(task, event.spec, now)

    def _enqueue(self, task: TaskRecord, spec: TaskSpec, now: float) -> list[Command]:
        task.spec = spec
        if spec.credit > task.credit:  # noqa: PLR1730 (max() is slower, and this runs for each task)
            task.credit = spec.credit
        for source in spec.sources:
            if source.block is not None and source.block.segment != CALLER_MEMORY:
                self._hold_source(task, source.block)
        return self._components.admission.enter(task, now)

    def _hold_source(self, task: TaskRecord, handle: Handle) -> None:
        """Lease the block of a source for its task. Several sources may lie in one block."""
        arena = self._components.arena
        block = arena.get(handle.generation)
        assert block is not None, "the caller holds the blocks of its sources"
        if block not in task.source_blocks:
            arena.acquire(block, Lease(Holder.TASK, task.task_id))
            task.source_blocks += (block,)

    def _on_staging_failed(self, event: StagingFailed, _now: float) -> list[Command]:
        self._components.broker.input_queue.end_staging(event.task_id)
        task = self._components.task_table.get(event.task_id)
        if task is not None and event.error is None:
            self._components.broker.input_queue.cancel(task.task_id)
            self._components.task_table.release_sources(task)
        return [] if task is None or event.error is None else self._components.task_table.settle(task, event.error)

    def _on_hashed(self, event: SourceHashed, now: float) -> list[Command]:
        components = self._components
        strike = components.source_hashing.end(event.task_id)
        if strike is not None and event.digest is not None:
            components.quarantine.strike(strike, event.digest, now)
        task = components.task_table.get(event.task_id)
        if task is None:
            return []  # its caller cancelled, or the pool was closed
        if task.pending_error is None:
            return components.admission.source_hashed(task, event.digest, now)
        return components.crash_recovery.source_hashed(task, event.digest, now)

    def _on_cancelled(self, event: TaskCancelled, now: float) -> list[Command]:
        components = self._components
        task = components.task_table.get(event.task_id)
        if task is None:
            return []
        if task.sent_to is not None:
            if task.state is TaskState.SENT:
                task.apply(TaskEvent.STOP_REQUESTED)
            return components.dispatcher.sent_tasks.withdraw(components.worker_table.slots[task.sent_to], task)
        if task.slot is None:
            components.queue.remove(task.task_id)
            return components.task_table.settle(task, None)
        if task.state is TaskState.DELIVERING:
            return self._deliveries.settle(task, None, now)
        slot = components.worker_table.slots[task.slot]
        if slot.state is WorkerState.BUSY:
            return self.stop(slot, task, StopReason.CALLER, WorkerEvent.CANCEL_REQUESTED, now)
        if task.stop is not StopReason.CLOSING:  # the worker was told to stop or is dying; only the outcome changes
            self._mark_as_stopping(task, StopReason.CALLER, now)
        return []

    def _on_credit_granted(self, event: CreditGranted, now: float) -> list[Command]:
        components = self._components
        task = components.task_table.get(event.task_id)
        if task is None or event.outputs <= task.credit:
            return []
        credited, task.credit = event.outputs - task.credit, event.outputs
        if task.slot is None or task.state is TaskState.DELIVERING:
            return []  # its `Run` will say it
        slot = components.worker_table.slots[task.slot]
        if slot.state is not WorkerState.BUSY:
            return []  # the worker was told to stop, or is dying
        assert slot.outbox_id is not None
        components.run_clock.resume(slot, now)
        grants, fetch = grant_next_outputs(components.arena, components.broker, slot.outbox_id, task, credited)
        return [Send(slot.index, Credit(task.task_id, task.credit, grants)), *fetch]
