"""The status block: a worker's last word, whatever stands there."""

from __future__ import annotations

import math
import random

from offloop.wire.status import STATUS_NBYTES, Status, read_status, write_progress, write_stage


def page() -> memoryview:
    return memoryview(bytearray(STATUS_NBYTES))


def test_a_fresh_block_says_that_nothing_has_begun() -> None:
    assert read_status(page()) == Status(0, 0, 0.0)


def test_a_stage_that_began_can_be_read() -> None:
    block = page()
    write_stage(block, (1 << 64) - 1, 3)
    assert read_status(block) == Status((1 << 64) - 1, 3, 0.0)


def test_progress_can_be_read_and_leaves_the_stage_alone() -> None:
    block = page()
    write_stage(block, 5, 1)
    write_progress(block, 0.25)
    assert read_status(block) == Status(5, 1, 0.25)


def test_a_new_stage_begins_without_progress() -> None:
    block = page()
    write_progress(block, 0.9)
    write_stage(block, 5, 2)
    assert read_status(block) == Status(5, 2, 0.0)


def test_a_copy_reads_as_the_block_does() -> None:
    block = page()
    write_stage(block, 5, 2)
    assert read_status(bytes(block)) == read_status(block)


def test_whatever_a_dead_worker_left_there_can_be_read() -> None:
    chance = random.Random(1)
    for _ in range(200):
        status = read_status(chance.randbytes(STATUS_NBYTES))
        assert status.task_id >= 0
        assert status.stage >= 0
        assert isinstance(status.progress, float)
    assert math.isnan(read_status(b"\xff" * STATUS_NBYTES).progress)


def test_the_block_is_a_page_of_its_own() -> None:
    assert STATUS_NBYTES == 4096
