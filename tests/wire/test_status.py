"""The status page: reads and writes of a worker's task, stage, progress and memory."""

from __future__ import annotations

import math
import random

from offloop.wire.status import STATUS_NBYTES, Status, read_status, write_progress, write_stage


def page() -> memoryview:
    return memoryview(bytearray(STATUS_NBYTES))


def test_an_unwritten_page_contains_no_task() -> None:
    assert read_status(page()) == Status(0, 0, 0.0)


def test_a_written_stage_can_be_read() -> None:
    block = page()
    write_stage(block, (1 << 64) - 1, 3)
    assert read_status(block) == Status((1 << 64) - 1, 3, 0.0)


def test_written_progress_can_be_read_and_does_not_change_the_stage() -> None:
    block = page()
    write_stage(block, 5, 1)
    write_progress(block, 0.25)
    assert read_status(block) == Status(5, 1, 0.25)


def test_a_new_stage_starts_with_progress_zero() -> None:
    block = page()
    write_progress(block, 0.9)
    write_stage(block, 5, 2)
    assert read_status(block) == Status(5, 2, 0.0)


def test_a_copy_of_the_page_has_the_same_values() -> None:
    block = page()
    write_stage(block, 5, 2)
    assert read_status(bytes(block)) == read_status(block)


def test_arbitrary_bytes_of_a_dead_worker_can_be_read() -> None:
    chance = random.Random(1)
    for _ in range(200):
        status = read_status(chance.randbytes(STATUS_NBYTES))
        assert status.task_id >= 0
        assert status.stage >= 0
        assert isinstance(status.progress, float)
    assert math.isnan(read_status(b"\xff" * STATUS_NBYTES).progress)


def test_the_status_is_a_whole_page() -> None:
    assert STATUS_NBYTES == 4096
