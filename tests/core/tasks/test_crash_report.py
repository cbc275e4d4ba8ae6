"""`build_crash_report`: the report on a dead worker, with checked contents."""

from __future__ import annotations

import math

import msgspec
import pytest

from offloop.core.model.events import WorkerExited
from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.model.worker_slot import WorkerSlot
from offloop.core.model.worker_state import WorkerEvent
from offloop.core.tasks.crash_report import build_crash_report
from offloop.core.workers.group_slots import GroupSlots
from offloop.core.workers.worker_table import WorkerTable
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Stage
from offloop.wire.status import Status


def stage(plugin: str, *operations: str) -> Stage:
    return Stage(plugin, msgspec.Raw(msgspec.msgpack.encode([[name, 1] for name in operations])))


STAGES = [stage("vips", "Resize", "Webp"), stage("faces", "Find")]
FATAL = "Fatal Python error: Segmentation fault\n\nThread 0x1:\n  File here"


def slot_with(task_id: int | None = 7, stages: list[Stage] | None = None) -> WorkerSlot:
    """A slot whose worker has been ready for a while and has the task."""
    worker_table = WorkerTable([GroupSlots(1)])
    slot = worker_table.add()
    worker_table.apply(slot, WorkerEvent.LOADING_BEGUN, 0.0)
    worker_table.apply(slot, WorkerEvent.READY, 0.0)
    slot.pid, slot.ready_since, slot.tasks = 4321, 10.0, 5
    if task_id is not None:
        worker_table.apply(slot, WorkerEvent.DISPATCHED, 0.0)
        spec = TaskSpec(sources=(EncodedAt(None),), stages=STAGES if stages is None else stages, timeout_s=None)
        slot.task = TaskRecord(task_id, 0.0, spec=spec)
    return slot


def exited(
    status: Status | None = None, exit_code: int | None = -11, reason: str | None = None, tail: str = ""
) -> WorkerExited:
    return WorkerExited(0, exit_code, reason, status, tail)


def test_a_report_has_all_known_facts() -> None:
    report = build_crash_report(slot_with(), exited(Status(7, 1, 0.25, 5_000_000), tail=f"chatter\n{FATAL}"), 40.0)
    assert (report.pid, report.exit_code, report.reason, report.task_id) == (4321, -11, None, 7)
    assert (report.running, report.progress, report.memory_bytes) == ("faces (Find) at 25%", 0.25, 5_000_000)
    assert (report.tasks, report.age_s, report.recent_transitions) == (5, 30.0, ("LoadingBegun", "Ready", "Dispatched"))
    assert report.traceback == FATAL
    assert report.stderr_tail == f"chatter\n{FATAL}"
    assert report.cause == "was ended by SIGSEGV during faces (Find) at 25%"


def test_a_worker_that_died_idle_had_no_task_and_ran_nothing() -> None:
    report = build_crash_report(slot_with(None), exited(Status(0, 0, 0.0, 99)), 40.0)
    assert (report.task_id, report.running, report.progress, report.memory_bytes) == (None, None, None, 99)


def test_a_process_that_was_not_started_has_a_reason_but_no_pid_and_no_age() -> None:
    report = build_crash_report(
        WorkerTable([GroupSlots(1)]).add(), exited(exit_code=None, reason="it could not be started"), 40.0
    )
    assert (report.pid, report.age_s, report.tasks, report.memory_bytes) == (None, None, 0, None)
    assert report.cause == "is lost: it could not be started"


def test_the_reason_of_the_core_takes_precedence_over_the_reason_of_the_runtime() -> None:
    slot = slot_with()
    slot.kill_reason = "it broke the protocol"
    assert build_crash_report(slot, exited(reason="something else"), 40.0).reason == "it broke the protocol"


@pytest.mark.parametrize(
    "status",
    [Status(8, 0, 0.5), Status(7, 2, 0.5), Status(7, 1 << 31, 0.5), Status(0, 0, 0.0), None],
    ids=["another task", "a stage that does not exist", "a huge stage", "nothing", "unreadable"],
)
def test_an_impossible_status_is_ignored(status: Status | None) -> None:
    report = build_crash_report(slot_with(), exited(status), 40.0)
    assert (report.running, report.progress) == (None, None)


@pytest.mark.parametrize("progress", [math.nan, math.inf, -math.inf, -1.0, 1.5, 0.0])
def test_an_impossible_progress_is_left_out(progress: float) -> None:
    report = build_crash_report(slot_with(), exited(Status(7, 0, progress)), 40.0)
    assert (report.running, report.progress) == ("vips (Resize, Webp)", 0.0)


def test_a_long_pipeline_is_shortened() -> None:
    names = [f"Step{n}" for n in range(20)]
    report = build_crash_report(slot_with(stages=[stage("vips", *names)]), exited(Status(7, 0, 0.0)), 40.0)
    assert report.running == f"vips ({', '.join(names[:8])}, and 12 more)"


def test_a_pipeline_of_the_maximum_length_is_not_shortened() -> None:
    names = [f"Step{n}" for n in range(8)]
    report = build_crash_report(slot_with(stages=[stage("vips", *names)]), exited(Status(7, 0, 0.0)), 40.0)
    assert report.running == f"vips ({', '.join(names)})"


def test_the_last_of_two_tracebacks_is_reported() -> None:
    report = build_crash_report(slot_with(), exited(tail=f"Fatal Python error: quoted\n{FATAL}"), 40.0)
    assert report.traceback == FATAL


def test_a_worker_without_a_traceback_has_none() -> None:
    assert build_crash_report(slot_with(), exited(tail="last line"), 40.0).traceback == ""


def test_operations_are_named_even_if_their_fields_cannot_be_decoded() -> None:
    """A map with maps as keys can be encoded, but cannot be decoded to plain Python objects."""
    operations = b"\x91\x92" + msgspec.msgpack.encode("Cut") + b"\x81" + msgspec.msgpack.encode({"a": 1}) + b"\x02"
    report = build_crash_report(slot_with(stages=[Stage("vips", msgspec.Raw(operations))]), exited(Status(7, 0, 0.0)), 40.0)
    assert report.running == "vips (Cut)"


def test_operations_that_are_nested_too_deeply_are_not_named() -> None:
    operations = b"\x91\x92" + msgspec.msgpack.encode("Cut") + b"\x91" * 1_000_000 + b"\x01"
    report = build_crash_report(slot_with(stages=[Stage("vips", msgspec.Raw(operations))]), exited(Status(7, 0, 0.0)), 40.0)
    assert report.running == "vips (operations nested too deeply to be named)"
