"""Outcomes: the error that a caller gets, and the counter of outcomes."""

from __future__ import annotations

import signal

import msgspec
import pytest

from offloop.core.model.task import StopReason, TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.tasks.outcomes import error_of_crash, error_of_failure, outcome_of_stop
from offloop.errors import (
    CrashReport,
    InvalidTask,
    MemoryLimitExceeded,
    PluginError,
    PoolClosed,
    TaskFailed,
    TaskTimeout,
)
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Failed, Stage

STAGES = [Stage("vips", msgspec.Raw(b"\x90")), Stage("faces", msgspec.Raw(b"\x90"))]


def task_with(stop: StopReason | None = None, *, refused: MemoryLimitExceeded | None = None) -> TaskRecord:
    spec = TaskSpec(sources=(EncodedAt(None),), stages=STAGES, timeout_s=2.5)
    task = TaskRecord(7, 0.0, spec)
    task.stop, task.grant_error = stop, refused
    return task


def failed(code: str, message: str = "text", traceback: str | None = None) -> Failed:
    return Failed(7, code, message, traceback, 1, 2)


@pytest.mark.parametrize("obeyed", [True, False])
def test_a_deadline_says_whether_it_was_obeyed(obeyed: bool) -> None:
    outcome = outcome_of_stop(task_with(StopReason.DEADLINE), obeyed=obeyed, running="vips")
    assert isinstance(outcome, TaskTimeout)
    assert (outcome.timeout_s, outcome.obeyed, outcome.running) == (2.5, obeyed, "vips")


def test_a_caller_that_cancelled_gets_no_outcome() -> None:
    assert outcome_of_stop(task_with(StopReason.CALLER), obeyed=True) is None


def test_a_task_that_ran_when_the_pool_was_closed_says_so() -> None:
    outcome = outcome_of_stop(task_with(StopReason.CLOSING), obeyed=True)
    assert isinstance(outcome, PoolClosed)
    assert "while the task ran" in str(outcome)


def test_a_processors_refusal_reaches_the_caller_with_its_code_and_traceback() -> None:
    outcome = error_of_failure(task_with(), failed("corrupt_source", "bad marker", "Traceback: here"))
    assert isinstance(outcome, TaskFailed)
    assert (outcome.code, outcome.message, outcome.remote_traceback) == ("corrupt_source", "bad marker", "Traceback: here")


def test_an_invalid_task_is_the_callers_fault() -> None:
    outcome = error_of_failure(task_with(), failed("invalid_task", "no such page"))
    assert isinstance(outcome, InvalidTask)
    assert str(outcome) == "no such page"


def test_a_task_that_was_refused_memory_ends_with_that_refusal() -> None:
    refusal = MemoryLimitExceeded(3000, 2000)
    assert error_of_failure(task_with(refused=refusal), failed("memory_limit")) is refusal


def test_a_memory_limit_without_a_refused_grant_is_the_processors_own() -> None:
    outcome = error_of_failure(task_with(), failed("memory_limit", "own limit"))
    assert isinstance(outcome, TaskFailed)
    assert outcome.code == "memory_limit"


def test_a_broken_plugin_is_named() -> None:
    outcome = error_of_failure(task_with(), failed("plugin_error:vips", "no libvips", "Traceback: here"))
    assert isinstance(outcome, PluginError)
    assert (outcome.plugin, outcome.reason, outcome.remote_traceback) == ("vips", "no libvips", "Traceback: here")


def test_text_of_a_worker_is_capped() -> None:
    outcome = error_of_failure(task_with(), failed("c" * 1000, "m" * 100_000, "t" * 100_000))
    assert isinstance(outcome, TaskFailed)
    assert len(outcome.code) <= 64
    assert outcome.remote_traceback is not None
    for text in (outcome.message, outcome.remote_traceback):
        assert len(text) < 25 * 1024
        assert text.endswith("[cut]")


@pytest.mark.parametrize("nasty", ["\x1b[31m", "\x00", "\r", "\u202e", "\x7f", "\u2028"])
def test_control_characters_of_a_worker_are_escaped(nasty: str) -> None:
    outcome = error_of_failure(task_with(), failed(f"a{nasty}b", f"a{nasty}b\nc", f"a{nasty}b\nc"))
    assert isinstance(outcome, TaskFailed)
    assert outcome.remote_traceback is not None
    for text in (outcome.code, outcome.message, outcome.remote_traceback):
        assert nasty not in text
        assert all(character.isprintable() or character == "\n" for character in text)
    assert outcome.message.endswith("b\nc"), "lines stay lines"


def report(exit_code: int | None = 1, reason: str | None = None, running: str | None = None, tail: str = "") -> CrashReport:
    return CrashReport(
        pid=5,
        exit_code=exit_code,
        reason=reason,
        task_id=7,
        running=running,
        progress=None,
        memory_bytes=None,
        traceback="",
        stderr_tail=tail,
        recent_transitions=(),
        tasks=1,
        age_s=1.0,
    )


def test_a_death_has_the_exit_code_the_running_operation_and_the_report() -> None:
    crash = report(3, running="faces (Find) at 25%", tail="last line")
    outcome = error_of_crash(crash)
    assert (outcome.exit_code, outcome.signal, outcome.reason) == (3, None, None)
    assert (outcome.running, outcome.stderr_tail) == ("faces (Find) at 25%", "last line")
    assert outcome.report is crash
    for text in ("code 3", "faces (Find)"):
        assert text in str(outcome)
    assert "last line" not in str(outcome)
    assert "last line" in outcome.__notes__[0]


def test_a_death_by_signal_names_the_signal() -> None:
    outcome = error_of_crash(report(-11))
    assert (outcome.exit_code, outcome.signal) == (None, signal.SIGSEGV)
    assert "SIGSEGV" in str(outcome)
    assert outcome.report is not None
    assert (outcome.report.signal, outcome.report.cause) == (signal.SIGSEGV, "was ended by SIGSEGV")


@pytest.mark.parametrize("number", [35, 40, 63])
def test_a_death_by_a_signal_without_a_name_is_an_outcome_too(number: int) -> None:
    assert str(number) in str(error_of_crash(report(-number)))


def test_a_worker_that_was_killed_for_its_own_fault_died_with_that_reason() -> None:
    outcome = error_of_crash(report(-9, reason="it broke the protocol"))
    assert outcome.reason == "it broke the protocol"
    assert "was killed: it broke the protocol" in str(outcome)


def test_a_process_that_was_not_started_has_its_reason_as_the_text() -> None:
    assert str(error_of_crash(report(None, reason="it could not be started"))) == "the worker is lost: it could not be started"


def test_a_death_of_unknown_cause_says_so() -> None:
    assert "took its exit code" in str(error_of_crash(report(None)))


def test_a_worker_that_was_killed_for_its_task_gives_the_task_the_outcome_of_the_stop() -> None:
    outcome = outcome_of_stop(task_with(StopReason.DEADLINE), obeyed=False, running="vips (Noop)")
    assert isinstance(outcome, TaskTimeout)
    assert (outcome.obeyed, outcome.running) == (False, "vips (Noop)")
    assert "vips (Noop)" in str(outcome)


def test_the_type_of_an_unexpected_exception_reaches_the_caller_escaped_and_cut() -> None:
    message = msgspec.structs.replace(failed("exception"), exception_type="jobs.Bad\x1b" + "x" * 500)
    error = error_of_failure(task_with(), message)
    assert isinstance(error, TaskFailed)
    assert error.exception_type is not None
    assert error.exception_type.startswith("jobs.Bad\\x1b")
    assert len(error.exception_type) == 200
    plain = error_of_failure(task_with(), failed("corrupt_source"))
    assert isinstance(plain, TaskFailed)
    assert plain.exception_type is None
