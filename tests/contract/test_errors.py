"""Errors travel: job queues pickle them, test runners copy them."""

from __future__ import annotations

import copy
import pickle
import signal
from collections.abc import Callable

import pytest

from offloop import errors

REPORT = errors.CrashReport(
    pid=4,
    exit_code=-11,
    reason=None,
    task_id=7,
    running="vips (Resize)",
    progress=0.5,
    memory_bytes=9,
    traceback="",
    stderr_tail="tail",
    story=("Ready",),
    tasks=1,
    age_s=2.0,
)
ALL = [
    errors.InvalidTask("no"),
    errors.QueueFull(1, 2),
    errors.QueueTimeout(1.0, "memory"),
    errors.TaskTimeout(1.0, obeyed=False, running="x"),
    errors.TaskFailed("code", "message", remote_traceback="Traceback"),
    errors.WorkerDied(-signal.SIGSEGV, running="x", stderr_tail="tail", report=REPORT),
    errors.TaskQuarantined(3, 60.0),
    errors.MemoryLimitExceeded(1, 2),
    errors.SourceTooLarge(1, 2),
    errors.PluginError("vips", "broken", distribution="offloop-vips 1"),
    errors.PoolClosed("closed"),
    errors.PoolMisused("thread", "a", "b"),
    errors.InternalError("ours"),
]


def test_no_error_is_forgotten_here() -> None:
    kinds = {name for name in errors.__all__ if name not in ("CrashReport", "OffloopError")}
    assert kinds == {type(error).__name__ for error in ALL}


def unpickled(error: errors.OffloopError) -> errors.OffloopError:
    return pickle.loads(pickle.dumps(error))


COPIES: list[Callable[[errors.OffloopError], errors.OffloopError]] = [copy.copy, copy.deepcopy, unpickled]


@pytest.mark.parametrize("error", ALL, ids=[type(error).__name__ for error in ALL])
@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_says_and_knows_what_the_error_does(
    error: errors.OffloopError, copied: Callable[[errors.OffloopError], errors.OffloopError]
) -> None:
    other = copied(error)
    assert (type(other), str(other), other.args, vars(other)) == (type(error), str(error), error.args, vars(error))
