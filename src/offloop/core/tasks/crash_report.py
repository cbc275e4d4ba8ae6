"""Builds the crash report of a dead worker from its exit code, its status page and its last output. All of it is checked."""

from __future__ import annotations

import msgspec

from ...errors import CrashReport
from ...wire.messages import Stage
from ...wire.status import Status
from ..model.events import WorkerExited
from ..model.task import TaskRecord
from ..model.worker_slot import WorkerSlot

__all__ = ["build_crash_report"]

_FATAL = "Fatal Python error:"  # first words of the report of Python's fault handler
_NAMES_SHOWN = 8  # maximum number of a stage's operations in a report

# fields are not decoded, because an image or a type that Python cannot build without its plugin may be among them
_operations_decoder = msgspec.msgpack.Decoder(list[list[msgspec.Raw]])
_name_decoder = msgspec.msgpack.Decoder(str)


def build_crash_report(slot: WorkerSlot, event: WorkerExited, now: float, loading: str | None = None) -> CrashReport:
    """Return the crash report of the process that was in the slot."""
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
    """Return the status if it is about this task, otherwise None. A progress that is out of range is set to 0."""
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
    """Return the names of a stage's operations, which this process encoded as arrays that start with the name."""
    try:
        names = [_name_decoder.decode(operation[0]) for operation in _operations_decoder.decode(stage.operations)]
    except RecursionError:  # possible because they were encoded with more stack left than here
        return "operations nested too deeply to be named"
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown}, and {len(names) - _NAMES_SHOWN} more"
