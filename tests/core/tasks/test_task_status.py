"""`checked_status`: what a worker's status page says about a task is believed only if the worker has that task."""

from __future__ import annotations

import msgspec
import pytest

from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.tasks.task_status import checked_status
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Stage
from offloop.wire.status import Status

STAGES = [Stage("faults", msgspec.Raw(b"\x90"))] * 2
TASK = TaskRecord(7, 0.0, spec=TaskSpec(sources=(EncodedAt(None),), stages=STAGES, timeout_s=None))


def test_the_status_of_the_task_is_returned() -> None:
    assert checked_status(TASK, Status(7, 1, 0.5)) == Status(7, 1, 0.5)


@pytest.mark.parametrize("forged", [Status(8, 1, 0.5), Status(7, 2, 0.5), None])
def test_the_status_of_another_task_or_of_a_stage_that_it_does_not_have_is_ignored(forged: Status | None) -> None:
    assert checked_status(TASK, forged) is None
    assert checked_status(None, forged) is None


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_progress_out_of_range_is_none_at_all(progress: float) -> None:
    assert checked_status(TASK, Status(7, 0, progress)) == Status(7, 0, 0.0)
