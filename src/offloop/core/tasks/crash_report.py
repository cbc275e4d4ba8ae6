"""Builds the crash report of a dead worker from its exit code, its status page and its last output. All of it is checked."""

from __future__ import annotations

from ...errors import CrashReport
from ...wire.status import Status
from ..model.events import WorkerExited
from ..model.task_record import TaskRecord
from ..model.worker_slot import WorkerSlot
from .task_status import checked_status, operation_names

__all__ = ["build_crash_report"]

_FATAL = "Fatal Python error:"  # first words of the report of Python's fault handler


def build_crash_report(slot: WorkerSlot, event: WorkerExited, now: float, loading: str | None = None) -> CrashReport:
    """Return the crash report of the process that was in the slot."""
    status = checked_status(slot.task, event.status)
    running = None if status is None else _running(slot.task, status)
    if loading is not None:
        running = f"the load of its plugin {loading!r}"
    fatal = event.stderr_tail.rfind(_FATAL)
    return CrashReport(
        pid=slot.pid,
        exit_code=event.exit_code,
        reason=slot.kill_reason or event.reason,
        task_id=None if slot.task is None else slot.task.task_id,
        labels={} if slot.task is None else dict(slot.task.spec.labels),
        running=running,
        progress=None if status is None else status.progress,
        memory_bytes=None if event.status is None else event.status.memory_bytes,
        traceback=event.stderr_tail[fatal:] if fatal >= 0 else "",
        stderr_tail=event.stderr_tail,
        recent_transitions=slot.state_machine.recent_transitions,
        tasks=slot.tasks,
        age_s=None if slot.ready_since is None else now - slot.ready_since,
    )


def _running(task: TaskRecord | None, status: Status) -> str:
    assert task is not None
    stage = task.spec.stages[status.stage]
    progress = f" at {status.progress:.0%}" if status.progress else ""
    return f"{stage.plugin} ({operation_names(stage)}){progress}"
