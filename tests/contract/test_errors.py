"""Errors can be pickled and copied, as job queues and test runners do; public messages contain no internals."""

from __future__ import annotations

import copy
import pickle
import signal
import traceback
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
    recent_transitions=("Ready",),
    tasks=1,
    age_s=2.0,
)
ALL = [
    errors.InvalidTask("no"),
    errors.InvalidTask("no '/srv/a'", public_message="no"),
    errors.QueueFull(1, 2),
    errors.QueueTimeout(1.0, "memory"),
    errors.TaskTimeout(1.0, obeyed=False, running="x"),
    errors.TaskFailed("code", "message", remote_traceback="Traceback"),
    errors.TaskFailed("exception", "KeyError: '/srv/a'"),
    errors.WorkerDied(-signal.SIGSEGV, running="x", stderr_tail="tail", report=REPORT),
    errors.TaskQuarantined(3, 60.0),
    errors.MemoryLimitExceeded(1, 2),
    errors.MemoryLimitExceeded(1, 2, is_temporary=True),
    errors.SourceTooLarge(1, 2),
    errors.PluginError("vips", "broken", distribution="offloop-vips 1", remote_traceback="Traceback"),
    errors.PoolClosed("closed"),
    errors.PoolMisused("thread", "a", "b"),
    errors.StreamAbandoned(60.0),
    errors.InternalError("ours"),
]


def test_the_examples_contain_every_error() -> None:
    kinds = {name for name in errors.__all__ if name not in ("CrashReport", "OffloopError")}
    assert kinds == {type(error).__name__ for error in ALL}


def unpickled(error: errors.OffloopError) -> errors.OffloopError:
    return pickle.loads(pickle.dumps(error))


COPIES: list[Callable[[errors.OffloopError], errors.OffloopError]] = [copy.copy, copy.deepcopy, unpickled]


@pytest.mark.parametrize("error", ALL, ids=[type(error).__name__ for error in ALL])
@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_has_the_text_and_the_fields_of_the_error(
    error: errors.OffloopError, copied: Callable[[errors.OffloopError], errors.OffloopError]
) -> None:
    other = copied(error)
    assert (type(other), str(other), other.args, vars(other)) == (type(error), str(error), error.args, vars(error))


@pytest.mark.parametrize("error", ALL, ids=[type(error).__name__ for error in ALL])
def test_a_note_that_is_added_to_a_copy_does_not_change_the_error(error: errors.OffloopError) -> None:
    notes = list(getattr(error, "__notes__", []))
    other = copy.copy(error)
    assert getattr(other, "__notes__", []) == notes
    other.add_note("of the copy")
    assert getattr(error, "__notes__", []) == notes
    assert other.__notes__ == [*notes, "of the copy"]


def test_the_log_shows_a_workers_traceback_and_the_public_message_does_not() -> None:
    for error in (
        errors.TaskFailed("exception", "KeyError: 'secret'", remote_traceback="secret line 3"),
        errors.PluginError("vips", "OSError: 'secret'", remote_traceback="secret line 3"),
        errors.WorkerDied(-11, stderr_tail="secret line 3"),
    ):
        assert "secret line 3" in "".join(traceback.format_exception(error))
        assert "secret" not in error.public_message


PRIVATE = [
    errors.InvalidTask("the source '/srv/secret' cannot be read", public_message="the source cannot be read"),
    errors.TaskFailed("exception", "KeyError: 'secret'", remote_traceback="secret"),
    errors.TaskFailed("cannot_write", "'/srv/secret': No space left on device"),
    errors.WorkerDied(3, reason="it could not be started: '/srv/secret'", stderr_tail="secret"),
    errors.PluginError("vips", "No such file: '/srv/secret'"),
    errors.PoolClosed("the pool secret is closed"),
    errors.PoolMisused("thread", "secret", "secret"),
    errors.InternalError("KeyError: 'secret'"),
]


@pytest.mark.parametrize("error", PRIVATE, ids=[type(error).__name__ for error in PRIVATE])
def test_the_public_message_contains_no_internals(error: errors.OffloopError) -> None:
    assert error.public_message
    assert "secret" not in error.public_message


def test_the_public_message_contains_a_plugins_message_for_clients() -> None:
    assert errors.TaskFailed("corrupt_source", "the JPEG ends early").public_message == "[corrupt_source] the JPEG ends early"
    assert errors.InvalidTask("width=0: at least 1").public_message == "width=0: at least 1"


def test_a_workers_output_is_in_the_notes_of_worker_died_and_not_in_its_text() -> None:
    error = errors.WorkerDied(3, running="vips (Resize)", stderr_tail="of the last customer")
    assert str(error) == "the worker exited with code 3 during vips (Resize)"
    assert error.__notes__ == ["the worker's output ended with:\nof the last customer"]
