"""Describes the end of a task for the event log, while there is a subscriber."""

from __future__ import annotations

import msgspec

from ...errors import OffloopError
from ...pool_events import TaskEnded
from ...wire.messages import Stage
from ..model.task import Completed
from ..model.task_record import TaskRecord
from .outcomes import Outcome, code_of, counter_of

__all__ = ["describe_end"]


class _OperationName(msgspec.Struct, frozen=True, array_like=True):
    """The tag of an encoded operation. The fields that follow are skipped."""

    name: str


_NAMES_DECODER = msgspec.msgpack.Decoder(list[_OperationName])


def describe_end(task: TaskRecord, outcome: Outcome, now: float) -> TaskEnded:
    """Return the event for a task that is about to be settled with this outcome."""
    error = outcome if isinstance(outcome, OffloopError) else None
    return TaskEnded(
        at=now,
        task_id=task.task_id,
        group=task.spec.group,
        operations=tuple([name for stage in task.spec.stages for name in _operation_names(stage)]),
        tenant=task.spec.tenant,
        outcome="completed" if isinstance(outcome, Completed) else counter_of(error),
        error=None if error is None else code_of(error),
        message=None if error is None else error.public_message,
        submitted_at=task.submitted_at,
        ready_at=task.ready_at or None,
        dispatched_at=task.dispatched_at if task.dispatches else None,
        slot=task.slot,
        runs=task.dispatches,
        deaths=task.crashes,
        source_bytes=task.nbytes,
        estimate_bytes=task.peak_bytes,
        labels=task.spec.labels,
    )


def _operation_names(stage: Stage) -> list[str]:
    return [f"{stage.plugin}.{operation.name}" for operation in _NAMES_DECODER.decode(stage.operations)]
