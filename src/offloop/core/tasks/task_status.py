"""What a worker's status page says about a task, checked, and the names of the operations of a stage."""

from __future__ import annotations

import msgspec

from ...wire.messages import Stage
from ...wire.status import Status
from ..model.task_record import TaskRecord

__all__ = ["checked_status", "operation_names"]

_NAMES_SHOWN = 8  # maximum number of a stage's operations in a text

# fields are not decoded, because an image or a type that Python cannot build without its plugin may be among them
_operations_decoder = msgspec.msgpack.Decoder(list[list[msgspec.Raw]])
_name_decoder = msgspec.msgpack.Decoder(str)


def checked_status(task: TaskRecord | None, status: Status | None) -> Status | None:
    """Return the status if it is about this task, otherwise None. A progress that is out of range is set to 0."""
    if status is None or task is None or status.task_id != task.task_id:
        return None
    if status.stage >= len(task.spec.stages):
        return None
    return status if 0.0 <= status.progress <= 1.0 else msgspec.structs.replace(status, progress=0.0)


def operation_names(stage: Stage) -> str:
    """Return the names of a stage's operations, which this process encoded as arrays that start with the name."""
    try:
        names = [_name_decoder.decode(operation[0]) for operation in _operations_decoder.decode(stage.operations)]
    except RecursionError:  # possible because they were encoded with more stack left than here
        return "operations nested too deeply to be named"
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown}, and {len(names) - _NAMES_SHOWN} more"
