"""Outcomes of tasks: builds the error that a caller gets."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import (
    CrashReport,
    InvalidTask,
    OffloopError,
    PluginError,
    PoolClosed,
    StreamAbandoned,
    TaskFailed,
    TaskTimeout,
    WorkerDied,
)
from ...wire.messages import Failed, OutputFailed
from ...wire.text import printable
from ..model.task import Completed, StopReason
from ..model.task_record import TaskRecord

__all__ = ["Outcome", "add_labels", "code_of", "counter_of", "error_of_crash", "error_of_failure", "outcome_of_stop"]

Outcome = Completed | OffloopError | None  # None: the caller cancelled and gets no outcome

_TEXT_LIMIT = 24 * 1024  # characters of a worker's text that reach a caller
_TYPE_LIMIT = 200  # characters of the name of an exception's type


def outcome_of_stop(task: TaskRecord, *, obeyed: bool, running: str | None = None) -> Outcome:
    """Return the outcome of a task that was told to stop."""
    match task.stop:
        case StopReason.DEADLINE:
            assert task.limit_s is not None
            return TaskTimeout(task.limit_s, obeyed=obeyed, running=running)
        case StopReason.IDLE_RECEIVER:
            assert task.spec.stream is not None
            assert task.spec.stream.idle_timeout_s is not None
            return StreamAbandoned(task.spec.stream.idle_timeout_s)
        case StopReason.CLOSING:
            return PoolClosed("the pool was closed while the task ran")
        case _:
            return None


def add_labels(labels: Mapping[str, str], outcome: Outcome) -> None:
    """Add the labels of a task to its error, as a note."""
    if labels and isinstance(outcome, OffloopError):
        outcome.add_note("labels: " + ", ".join([f"{name}={ascii(value)[1:-1]}" for name, value in labels.items()]))


def error_of_failure(task: TaskRecord, failed: Failed | OutputFailed) -> OffloopError:
    """Return the error for a task, or one of its named pipelines, that its processor refused or failed to run."""
    code, message = _clean(failed.code)[:64], _clean(failed.message)
    if code == "invalid_task":
        return InvalidTask(message)
    if code == "memory_limit" and task.grant_error is not None:
        return task.grant_error
    traceback = failed.traceback and _clean(failed.traceback)
    if code == "cannot_write" and task.file_error is not None:
        return task.file_error
    kind, _, plugin = code.partition(":")
    if kind == "plugin_error":
        return PluginError(plugin, message, remote_traceback=traceback)
    return TaskFailed(
        code,
        message,
        remote_traceback=traceback,
        recycle=isinstance(failed, Failed) and failed.recycle,
        exception_type=_clean(failed.exception_type)[:_TYPE_LIMIT] or None,
    )


def error_of_crash(report: CrashReport) -> WorkerDied:
    """Return the error for a task whose worker is dead."""
    return WorkerDied(
        report.exit_code,
        reason=report.reason,
        running=report.running,
        stderr_tail=report.stderr_tail,
        report=report,
    )


def code_of(error: OffloopError) -> str:
    """Return the code of a `TaskFailed`, or the name of the type of any other error."""
    return error.code if isinstance(error, TaskFailed) else type(error).__name__


def counter_of(outcome: OffloopError | None) -> str:
    """Return the counter of `Statistics` for a task without a result. None: its caller cancelled."""
    if outcome is None:
        return "cancelled"
    if isinstance(outcome, TaskTimeout | StreamAbandoned):
        return "timed_out"
    if isinstance(outcome, WorkerDied):
        return "worker_died"
    return "failed" if isinstance(outcome, TaskFailed | PluginError) else "refused"


def _clean(text: str) -> str:
    return printable(text, _TEXT_LIMIT)
