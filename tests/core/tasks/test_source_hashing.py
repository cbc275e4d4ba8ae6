"""`SourceHashing`: a source stays leased while it is hashed, even if its task ends."""

from __future__ import annotations

import pytest

from offloop.core.memory.arena import Arena
from offloop.core.model.blocks import Block, Holder, Lease
from offloop.core.model.commands import HashSource
from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.tasks.source_hashing import SourceHashing
from offloop.wire.handles import INBOX, EncodedAt, Handle

from ..pool_script import STAGES


def task_with(block: Block, task_id: int, handle: Handle) -> TaskRecord:
    task = TaskRecord(task_id, 0.0, TaskSpec(sources=(EncodedAt(handle),), stages=STAGES, timeout_s=None))
    task.source_blocks = (block,)
    return task


def test_each_reader_leases_the_block_from_the_command_to_the_answer() -> None:
    arena = Arena(1 << 20, 1 << 19)
    allocated = arena.allocate(0, 5000, Holder.CALLER)
    assert allocated is not None
    block, reservation = allocated
    assert reservation is not None
    arena.release(block, Lease(Holder.RESERVATION, block.generation))
    source_hashing = SourceHashing(arena)
    handle = Handle(INBOX, block.offset, 5000, block.generation)
    for task_id in (1, 2):
        assert source_hashing.begin(task_with(block, task_id, handle)) == HashSource(task_id, (handle,))
    arena.release(block, Lease(Holder.CALLER, block.generation))
    source_hashing.end(1)
    assert arena.get(block.generation) is block
    source_hashing.end(2)
    assert arena.get(block.generation) is None


def test_only_a_reading_for_a_strike_returns_a_specification() -> None:
    arena = Arena(1 << 20, 1 << 19)
    allocated = arena.allocate(0, 5000, Holder.CALLER)
    assert allocated is not None
    handle = Handle(INBOX, allocated[0].offset, 5000, allocated[0].generation)
    source_hashing = SourceHashing(arena)
    suspect, struck = task_with(allocated[0], 1, handle), task_with(allocated[0], 2, handle)
    source_hashing.begin(suspect)
    source_hashing.begin(struck, strike=True)
    assert source_hashing.end(1) is None
    assert source_hashing.end(2) is struck.spec


def test_an_answer_without_a_request_is_a_defect() -> None:
    with pytest.raises(KeyError):
        SourceHashing(Arena(1 << 20, 1 << 19)).end(1)
