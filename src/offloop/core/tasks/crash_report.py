"""The report on a dead worker: from its exit code, its status block and its last output, none of it believed unchecked."""

from __future__ import annotations

import msgspec

from ...errors import CrashReport
from ...wire.messages import Stage
from ...wire.status import Status
from ..model.events import WorkerExited
from ..model.task import TaskRecord
from ..model.worker_slot import WorkerSlot

__all__ = ["build_crash_report"]

_FATAL = "Fatal Python error:"  # how the fault handler's report begins
_NAMES_SHOWN = 8  # operations of a pipeline

# whatever their fields are: a picture to lay over another, or what Python cannot build without knowing the type
_operations_decoder = msgspec.msgpack.Decoder(list[list[msgspec.Raw]])
_name_decoder = msgspec.msgpack.Decoder(str)


def build_crash_report(slot: WorkerSlot, event: WorkerExited, now: float, loading: str | None = None) -> CrashReport:
    """What is known of the process that was in the slot."""
    status = _checked_status(slot.task, event.status)
    running = None if status is None else _running(slot.task, status)
    if loading is not None:
        running = f"the load of its plugin {loading!r}"
    fatal = event.stderr_tail.rfind(_FATAL)
    return CrashReport(
        pid=slot.pid,
        exit_code=event.exit_code,
        reason=slot.kill_reason or event.reason,
        task_id=None if slot.task is None else slot.task.task_id,
        running=running,
        progress=None if status is None else status.progress,
        memory_bytes=None if event.status is None else event.status.memory_bytes,
        traceback=event.stderr_tail[fatal:] if fatal >= 0 else "",
        stderr_tail=event.stderr_tail,
        recent_transitions=slot.state_machine.recent_transitions,
        tasks=slot.tasks,
        age_s=None if slot.ready_since is None else now - slot.ready_since,
    )


def _checked_status(task: TaskRecord | None, status: Status | None) -> Status | None:
    """The status, if it is about this task; a wild progress is none."""
    if status is None or task is None or status.task_id != task.task_id:
        return None
    if status.stage >= len(task.spec.stages):
        return None
    return status if 0.0 <= status.progress <= 1.0 else msgspec.structs.replace(status, progress=0.0)


def _running(task: TaskRecord | None, status: Status) -> str:
    assert task is not None
    stage = task.spec.stages[status.stage]
    progress = f" at {status.progress:.0%}" if status.progress else ""
    return f"{stage.plugin} ({_operations(stage)}){progress}"


def _operations(stage: Stage) -> str:
    """The operations of a stage by name: they were encoded here, as arrays that begin with it."""
    try:
        names = [_name_decoder.decode(operation[0]) for operation in _operations_decoder.decode(stage.operations)]
    except RecursionError:  # they were encoded from higher up the stack
        return "operations nested too deeply to be named"
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown}, and {len(names) - _NAMES_SHOWN} more"
