"""Ends of deliveries: their tasks are sent to the workers, or taken back from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import OffloopError
from .components import Components
from .model.commands import Command, RestageSource, StopDelivery
from .model.events import SourcesDelivered
from .model.settings import KEPT_INBOX_NBYTES
from .model.task_record import TaskRecord
from .model.task_state import TaskEvent
from .model.worker_slot import WorkerSlot
from .model.worker_state import WorkerEvent, WorkerState

__all__ = ["DeliveryEventHandlers"]


class DeliveryEventHandlers:
    """Handler of `SourcesDelivered`, and the other reasons for which a delivery ends."""

    def __init__(self, components: Components) -> None:
        self._components = components
        self.handlers: dict[type, Callable[[Any, float], list[Command]]] = {SourcesDelivered: self._on_delivered}

    def settle(self, task: TaskRecord, outcome: OffloopError | None, now: float) -> list[Command]:
        """Stop the delivery of a task, and settle the task. None: its caller cancelled."""
        return self._stop(task, now) + self._settle(task, outcome)

    def requeue(self, task: TaskRecord, now: float) -> list[Command]:
        """Stop the delivery of a task, because its worker is dead, and queue the task as the first one."""
        commands, queue = self._stop(task, now), self._components.queue
        task.apply(TaskEvent.WITHDRAWN)
        if task.crashes:
            queue.push_for_unused_worker(task)
        else:
            queue.requeue_first(task)
        return commands

    def stage_again(self, task: TaskRecord, now: float) -> list[Command]:
        """Stop the delivery of a task that takes too long, so that the worker can run others, and have its files read into the
        pool's inbox, without a worker."""
        commands = self._stop(task, now)
        self._components.queue.record_duration(task, 0.0)
        task.apply(TaskEvent.WITHDRAWN)
        task.apply(TaskEvent.SOURCE_RELEASED)
        return [*commands, RestageSource(task.task_id)]

    def _on_delivered(self, event: SourcesDelivered, now: float) -> list[Command]:
        components = self._components
        task = components.dispatcher.deliveries.end(event.delivery_id)
        if task is None:
            return []
        assert task.slot is not None
        slot = components.worker_table.slots[task.slot]
        if slot.state is not WorkerState.BUSY:
            return []  # the worker is dying; its exit is about to queue the task again
        if event.error is None:
            return components.dispatcher.begin_delivered(slot, task, now)
        return self._take_back(slot, task, now) + self._settle(task, event.error)

    def _settle(self, task: TaskRecord, outcome: OffloopError | None) -> list[Command]:
        self._components.queue.record_duration(task, 0.0)
        return self._components.task_table.settle(task, outcome)

    def _stop(self, task: TaskRecord, now: float) -> list[Command]:
        assert task.slot is not None
        slot = self._components.worker_table.slots[task.slot]
        return [StopDelivery(slot.index, task.delivery_id), *self._take_back(slot, task, now)]

    def _take_back(self, slot: WorkerSlot, task: TaskRecord, now: float) -> list[Command]:
        """Take a task from the worker that its sources were delivered to. The worker is idle then, unless it is dying."""
        components = self._components
        task.slot, task.delivery_id = None, 0
        task.dispatches -= 1
        slot.receiving = None
        slot.runs -= 1
        slot.take_back(1)
        components.budget.discharge(task)
        if slot.state is not WorkerState.BUSY:
            return []
        components.budget.count_inbox(slot, task.copy_bytes)
        if task.copy_bytes > KEPT_INBOX_NBYTES + slot.excess_bytes:
            components.budget.set_excess(slot, task.copy_bytes - KEPT_INBOX_NBYTES)
        components.worker_table.apply(slot, WorkerEvent.TASK_FINISHED, now, slot.expires_at)
        return components.groups.by_name[slot.group].reconciler.reconcile(now)
