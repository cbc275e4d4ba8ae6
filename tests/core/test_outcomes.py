"""From how a task ended to what its caller gets."""

from __future__ import annotations

import math
import signal

import msgspec
import pytest

from offloop.core.outcomes import Outcome, Tally, of_death, of_failure, of_stop
from offloop.core.tasks import Completed, Stop, TaskRecord, TaskSpec
from offloop.errors import (
    InternalError,
    InvalidTask,
    MemoryLimitExceeded,
    PluginError,
    PoolClosed,
    QueueFull,
    QueueTimeout,
    TaskFailed,
    TaskTimeout,
    WorkerDied,
)
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Failed, Stage
from offloop.wire.status import Status

STAGES = [Stage("vips", msgspec.Raw(b"\x90")), Stage("faces", msgspec.Raw(b"\x90"))]


def task_with(stop: Stop | None = None, *, refused: MemoryLimitExceeded | None = None) -> TaskRecord:
    spec = TaskSpec(source=EncodedAt(None), stages=STAGES, timeout_s=2.5)
    return TaskRecord(7, 0.0, spec=spec, stop=stop, refused=refused)


def failed(code: str, message: str = "text", traceback: str | None = None) -> Failed:
    return Failed(7, code, message, traceback, 1, 2)


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (None, "cancelled"),
        (Completed(EncodedAt(None), None, {}, 1, 2), "completed"),
        (TaskTimeout(1.0, obeyed=True), "timed_out"),
        (WorkerDied(1), "worker_died"),
        (TaskFailed("code", "text"), "failed"),
        (PluginError("vips", "text"), "failed"),  # it ran: what was never run is refused
        (QueueFull(1, 1), "refused"),
        (QueueTimeout(1.0, "a worker"), "refused"),
        (MemoryLimitExceeded(2, 1), "refused"),
        (InvalidTask("text"), "refused"),
        (PoolClosed(), "refused"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_every_outcome_is_counted_under_one_name(outcome: Outcome, kind: str) -> None:
    tally = Tally()
    tally.count(outcome)
    assert dict(tally.ended) == {kind: 1}


@pytest.mark.parametrize("obeyed", [True, False])
def test_a_deadline_says_whether_it_was_obeyed(obeyed: bool) -> None:
    outcome = of_stop(task_with(Stop.DEADLINE), obeyed=obeyed, running="vips")
    assert isinstance(outcome, TaskTimeout)
    assert (outcome.timeout_s, outcome.obeyed, outcome.running) == (2.5, obeyed, "vips")


def test_a_caller_that_left_hears_nothing() -> None:
    assert of_stop(task_with(Stop.CALLER), obeyed=True) is None


def test_a_task_that_ran_when_the_pool_was_closed_says_so() -> None:
    outcome = of_stop(task_with(Stop.CLOSING), obeyed=True)
    assert isinstance(outcome, PoolClosed)
    assert "while the task ran" in str(outcome)


def test_a_processors_refusal_reaches_the_caller_with_its_code_and_traceback() -> None:
    outcome = of_failure(task_with(), failed("corrupt_source", "bad marker", "Traceback: here"))
    assert isinstance(outcome, TaskFailed)
    assert (outcome.code, outcome.message, outcome.remote_traceback) == ("corrupt_source", "bad marker", "Traceback: here")


def test_an_invalid_task_is_the_callers_fault() -> None:
    outcome = of_failure(task_with(), failed("invalid_task", "no such page"))
    assert isinstance(outcome, InvalidTask)
    assert str(outcome) == "no such page"


def test_a_task_that_was_refused_memory_ends_with_that_refusal() -> None:
    refusal = MemoryLimitExceeded(3000, 2000)
    assert of_failure(task_with(refused=refusal), failed("memory_limit")) is refusal


def test_a_memory_limit_that_we_never_refused_is_the_processors_own() -> None:
    outcome = of_failure(task_with(), failed("memory_limit", "own limit"))
    assert isinstance(outcome, TaskFailed)
    assert outcome.code == "memory_limit"


def test_a_broken_plugin_is_named() -> None:
    outcome = of_failure(task_with(), failed("plugin_error:vips", "no libvips"))
    assert isinstance(outcome, PluginError)
    assert (outcome.plugin, outcome.reason) == ("vips", "no libvips")


def test_text_of_a_worker_is_capped() -> None:
    outcome = of_failure(task_with(), failed("c" * 1000, "m" * 100_000, "t" * 100_000))
    assert isinstance(outcome, TaskFailed)
    assert len(outcome.code) <= 64
    assert outcome.remote_traceback is not None
    for text in (outcome.message, outcome.remote_traceback):
        assert len(text) < 33 * 1024
        assert text.endswith("[cut]")


@pytest.mark.parametrize("nasty", ["\x1b[31m", "\x00", "\r", "\u202e", "\x7f", "\u2028"])
def test_control_characters_of_a_worker_are_escaped(nasty: str) -> None:
    outcome = of_failure(task_with(), failed(f"a{nasty}b", f"a{nasty}b\nc", f"a{nasty}b\nc"))
    assert isinstance(outcome, TaskFailed)
    assert outcome.remote_traceback is not None
    for text in (outcome.code, outcome.message, outcome.remote_traceback):
        assert nasty not in text
        assert all(character.isprintable() or character == "\n" for character in text)
    assert outcome.message.endswith("b\nc"), "lines stay lines"


def test_a_death_tells_the_exit_code_and_what_ran() -> None:
    outcome = of_death(task_with(), 3, None, Status(7, 1, 0.25), "last line")
    assert isinstance(outcome, WorkerDied)
    assert (outcome.exit_code, outcome.signal, outcome.reason, outcome.running) == (3, None, None, "faces at 25%")
    assert "last line" in str(outcome)


def test_a_death_by_signal_names_the_signal() -> None:
    outcome = of_death(task_with(), -11, None, None, "")
    assert isinstance(outcome, WorkerDied)
    assert (outcome.exit_code, outcome.signal, outcome.running) == (None, signal.SIGSEGV, None)


@pytest.mark.parametrize("number", [35, 40, 63])
def test_a_death_by_a_signal_without_a_name_is_an_outcome_too(number: int) -> None:
    outcome = of_death(task_with(), -number, None, None, "")
    assert isinstance(outcome, WorkerDied)
    assert str(number) in str(outcome)


@pytest.mark.parametrize(
    "status",
    [Status(8, 0, 0.5), Status(7, 2, 0.5), Status(7, 1 << 31, 0.5), Status(0, 0, 0.0)],
    ids=["another task", "a stage that is none", "a huge stage", "nothing"],
)
def test_a_dead_workers_hint_is_not_believed_without_a_check(status: Status) -> None:
    outcome = of_death(task_with(), 1, None, status, "")
    assert isinstance(outcome, WorkerDied)
    assert outcome.running is None


@pytest.mark.parametrize("progress", [math.nan, math.inf, -math.inf, -1.0, 1.5, 0.0])
def test_progress_that_cannot_be_is_left_out(progress: float) -> None:
    outcome = of_death(task_with(), 1, None, Status(7, 0, progress), "")
    assert isinstance(outcome, WorkerDied)
    assert outcome.running == "vips"


@pytest.mark.parametrize(("stop", "kind"), [(Stop.DEADLINE, TaskTimeout), (Stop.CLOSING, PoolClosed)])
def test_a_worker_that_we_killed_for_its_task_ends_the_task_as_it_was_stopped(stop: Stop, kind: type[Exception]) -> None:
    outcome = of_death(task_with(stop), -9, None, Status(7, 0, 0.0), "")
    assert isinstance(outcome, kind)
    if isinstance(outcome, TaskTimeout):
        assert (outcome.obeyed, outcome.running) == (False, "vips")


def test_a_worker_that_we_killed_for_its_cancelled_task_leaves_no_outcome() -> None:
    assert of_death(task_with(Stop.CALLER), -9, None, None, "") is None


def test_a_worker_that_was_killed_for_its_own_fault_died_with_that_reason() -> None:
    outcome = of_death(task_with(Stop.DEADLINE), -9, "it broke the protocol", None, "")
    assert isinstance(outcome, WorkerDied)
    assert outcome.reason == "it broke the protocol"
    assert not isinstance(outcome, InternalError)
