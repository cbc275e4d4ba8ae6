"""The event for the end of a task, and the bound on the codes of errors."""

from __future__ import annotations

import msgspec

from offloop.core.model.task import Completed, TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.tasks.task_end import describe_end
from offloop.core.tasks.task_table import OutcomeCounter
from offloop.errors import QueueFull, TaskFailed
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Stage


def task() -> TaskRecord:
    stages = [
        Stage("vips", msgspec.Raw(msgspec.msgpack.encode([["Resize", 320, None, {"fit": "cover"}], ["Sharpen"]]))),
        Stage("onnx", msgspec.Raw(msgspec.msgpack.encode([["Upscale", 2]]))),
    ]
    spec = TaskSpec(sources=(EncodedAt(None),), stages=stages, timeout_s=None, tenant="acme")
    return TaskRecord(7, 1.0, spec)


def test_operations_are_named_with_their_plugins() -> None:
    assert describe_end(task(), Completed(None), 2.0).operations == ("vips.Resize", "vips.Sharpen", "onnx.Upscale")


def test_a_task_that_no_worker_had_says_so() -> None:
    event = describe_end(task(), QueueFull(3, 3), 2.0)
    assert (event.ready_at, event.dispatched_at, event.slot, event.runs) == (None, None, None, 0)
    assert (event.outcome, event.error, event.message) == ("refused", "QueueFull", QueueFull(3, 3).public_message)


def test_a_task_whose_caller_left_has_no_error() -> None:
    event = describe_end(task(), None, 2.0)
    assert (event.outcome, event.error, event.message) == ("cancelled", None, None)


def test_a_failed_task_has_the_code_of_its_plugin() -> None:
    event = describe_end(task(), TaskFailed("corrupt_source", "cut off"), 2.0)
    assert (event.outcome, event.error, event.message) == ("failed", "corrupt_source", "[corrupt_source] cut off")


def test_only_the_first_codes_of_errors_are_counted_on_their_own() -> None:
    counter = OutcomeCounter()
    for number in range(70):
        for _ in range(2):
            counter.count(TaskFailed(f"code {number}", ""))
    assert len(counter.errors) == 61
    assert (counter.errors["code 0"], counter.errors["code 59"], counter.errors["(others)"]) == (2, 2, 20)
    assert counter.errors.total() == counter.ended["failed"] == 140
