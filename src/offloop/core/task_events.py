"""What happens to tasks before they have a worker, and when their callers want them no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import PoolClosed
from ..wire.messages import Cancel
from .components import Parts
from .model.blocks import Holder, Lease
from .model.commands import Command, Send
from .model.events import (
    GrowthRequested,
    InputCompleted,
    InputRequested,
    SourceIdentified,
    TaskCancelled,
    TaskEstimated,
    TaskPrepared,
    TaskRefused,
    TaskSubmitted,
)
from .model.pool_phase import Phase
from .model.task import Stop, TaskRecord, TaskSpec
from .model.worker_slot import Slot
from .model.worker_state import WorkerEvent, WorkerState

__all__ = ["TaskEvents"]

_OPEN = Phase.OPEN  # looked up once, as in `crew`


class TaskEvents:
    """The handlers of these events."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.handlers: dict[type, Callable[[Any, float], list[Command]]] = {
            TaskSubmitted: self._on_submitted,
            TaskEstimated: self._on_estimated,
            InputRequested: self._on_input_requested,
            GrowthRequested: self._on_growth_requested,
            InputCompleted: self._on_input_completed,
            TaskPrepared: self._on_prepared,
            TaskRefused: self._on_refused,
            SourceIdentified: self._on_identified,
            TaskCancelled: self._on_cancelled,
        }

    def stop(self, slot: Slot, task: TaskRecord, stop: Stop, event: WorkerEvent, now: float) -> list[Command]:
        """Tell the worker that has the task to stop; its grace runs."""
        parts = self._parts
        task.stop = stop
        parts.supply.withdraw(task)
        parts.run_clock.end_wait(task, now)
        parts.crew.apply(slot, event, now + parts.settings.grace_s, cause=f"its task is to stop: {stop.value}")
        return [Send(slot.index, Cancel(task.task_id))]

    def _on_submitted(self, event: TaskSubmitted, now: float) -> list[Command]:
        parts = self._parts
        task = parts.ledger.enter(event.task_id, now)
        if parts.phase is not _OPEN:
            return parts.ledger.settle(task, PoolClosed(f"the pool is {parts.phase.value}"))
        full = parts.admission.submitted(task, event.nbytes)
        if full is not None:
            return parts.ledger.settle(task, full)
        return [] if event.spec is None else self._take_in(task, event.spec, now)

    def _on_estimated(self, event: TaskEstimated, now: float) -> list[Command]:
        task = self._parts.ledger.get(event.task_id)
        return [] if task is None else self._parts.admission.estimated(task, event.spec, event.nbytes, now)

    def _on_input_requested(self, event: InputRequested, now: float) -> list[Command]:
        task = None if event.task_id is None else self._parts.ledger.get(event.task_id)
        return self._parts.supply.request_input(
            event.input_id, event.nbytes, task, addresses_bytes=event.addresses_bytes, now=now
        )

    def _on_growth_requested(self, event: GrowthRequested, now: float) -> list[Command]:
        return self._parts.supply.request_growth(event.input_id, event.generation, event.nbytes, event.wanted_nbytes, now)

    def _on_input_completed(self, event: InputCompleted, _now: float) -> list[Command]:
        self._parts.supply.complete_input(event.generation, event.nbytes)
        return []

    def _on_prepared(self, event: TaskPrepared, now: float) -> list[Command]:
        task = self._parts.ledger.get(event.task_id)
        if task is None:
            return []  # it has its outcome already: the pool was closed meanwhile
        return self._take_in(task, event.spec, now)

    def _take_in(self, task: TaskRecord, spec: TaskSpec, now: float) -> list[Command]:
        task.spec = spec
        source = spec.source.block
        if source is not None:
            arena = self._parts.arena
            task.source_block = arena.get(source.generation)
            assert task.source_block is not None, "a source's block is held by its caller"
            arena.take(task.source_block, Lease(Holder.TASK, task.task_id))
        return self._parts.admission.enter(task, now)

    def _on_refused(self, event: TaskRefused, _now: float) -> list[Command]:
        task = self._parts.ledger.get(event.task_id)
        return [] if task is None else self._parts.ledger.settle(task, event.error)

    def _on_identified(self, event: SourceIdentified, now: float) -> list[Command]:
        parts = self._parts
        struck = parts.identification.end(event.task_id)
        if struck is not None and event.digest is not None:
            parts.quarantine.strike(struck, event.digest, now)
        task = parts.ledger.get(event.task_id)
        if task is None:
            return []  # its caller left, or the pool was closed
        if task.fate is None:
            return parts.admission.identified(task, event.digest, now)
        return parts.deaths.identified(task, event.digest)

    def _on_cancelled(self, event: TaskCancelled, now: float) -> list[Command]:
        parts = self._parts
        task = parts.ledger.get(event.task_id)
        if task is None:
            return []
        slot = parts.crew.maybe_with(task)
        if slot is None:
            parts.queue.remove(task.task_id)
            return parts.ledger.settle(task, None)
        if slot.state is WorkerState.BUSY:
            return self.stop(slot, task, Stop.CALLER, WorkerEvent.CANCEL_REQUESTED, now)
        if task.stop is None or task.stop is Stop.DEADLINE:
            task.stop = Stop.CALLER  # its end is under way; only the outcome changes
        return []
