"""`validate_answer` and `validate_output`: handles in answers are checked against the blocks that the worker holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from offloop.core.memory.arena import Arena
from offloop.core.model.blocks import Block, Holder
from offloop.core.model.task import TaskSpec
from offloop.core.model.task_record import TaskRecord
from offloop.core.model.worker_slot import WorkerSlot
from offloop.core.model.worker_state import WorkerStateMachine
from offloop.core.tasks.answer_checks import InvalidHandle, block_nbytes, validate_answer
from offloop.wire.handles import INBOX, OUTBOX, EncodedAt, Handle, RasterAt, WrittenTo
from offloop.wire.messages import Done, Failed

P = 4096
TASK_ID, OUTBOX_ID = 7, 1


class Scene:
    """A worker with a preallocated block of two pages and a granted block of three."""

    def __init__(self, *, to_file: bool = False) -> None:
        self.arena = Arena(64 * P, 32 * P)
        self.arena.add_segment(OUTBOX_ID, 65 * P, keep=P)
        self.preallocated = self.block(2 * P, Holder.PREALLOCATED, OUTBOX_ID)
        self.granted = self.block(3 * P, Holder.WORKER, TASK_ID)
        spec = TaskSpec(sources=(EncodedAt(None),), stages=[], timeout_s=None, to_file=to_file)
        self.task = TaskRecord(TASK_ID, 0.0, spec)
        self.task.granted = [self.granted]
        self.slot = WorkerSlot(0, "default", WorkerStateMachine())
        self.slot.outbox_id, self.slot.task, self.slot.preallocated_block = OUTBOX_ID, self.task, self.preallocated

    def block(self, nbytes: int, holder: Holder, owner: int) -> Block:
        """Allocate a block with reserved pages."""
        primer = self.arena.allocate(OUTBOX_ID, nbytes, holder, owner)
        assert primer is not None
        block, reservation = primer
        if reservation is not None:
            self.arena.release(block, next(lease for lease in block.leases if lease.holder is Holder.RESERVATION))
        return block

    def claim(self, output: EncodedAt | RasterAt | WrittenTo) -> Block | None:
        return validate_answer(self.slot, self.task, Done(TASK_ID, output, {}, 1, 2))


def handle_of(block: Block, nbytes: int | None = None) -> Handle:
    return Handle(OUTBOX, block.offset, block.nbytes if nbytes is None else nbytes, block.generation)


@pytest.mark.parametrize("name", ["preallocated", "granted"])
@pytest.mark.parametrize("nbytes", [1, P, 2 * P])
def test_an_output_at_the_start_of_a_block_that_the_worker_holds_is_valid(name: str, nbytes: int) -> None:
    scene = Scene()
    block: Block = getattr(scene, name)
    assert scene.claim(EncodedAt(handle_of(block, nbytes))) is block


def test_samples_are_valid_like_bytes() -> None:
    scene = Scene()
    assert scene.claim(RasterAt(handle_of(scene.granted, 12), (2, 2, 3), "|u1")) is scene.granted


def test_an_empty_output_needs_no_block() -> None:
    assert Scene().claim(EncodedAt(None)) is None


def test_a_failure_has_no_block() -> None:
    scene = Scene()
    assert validate_answer(scene.slot, scene.task, Failed(TASK_ID, "code", "text", None, 1, 2)) is None


FORGERIES: dict[str, Callable[[Block], tuple[int, int, int, int]]] = {
    "the generation before": lambda b: (OUTBOX, b.offset, 1, b.generation - 1),
    "a generation to come": lambda b: (OUTBOX, b.offset, 1, b.generation + 100),
    "a generation below zero": lambda b: (OUTBOX, b.offset, 1, -1),
    "the inbox": lambda b: (INBOX, b.offset, 1, b.generation),
    "a segment that is none": lambda b: (2, b.offset, 1, b.generation),
    "a page further": lambda b: (OUTBOX, b.offset + P, 1, b.generation),
    "a byte further": lambda b: (OUTBOX, b.offset + 1, 1, b.generation),
    "an offset below zero": lambda b: (OUTBOX, -b.offset, 1, b.generation),
    "a byte too many": lambda b: (OUTBOX, b.offset, b.nbytes + 1, b.generation),
    "no bytes at all": lambda b: (OUTBOX, b.offset, 0, b.generation),
    "fewer than no bytes": lambda b: (OUTBOX, b.offset, -1, b.generation),
    "more bytes than there are": lambda b: (OUTBOX, b.offset, 1 << 62, b.generation),
}


@pytest.mark.parametrize("forgery", FORGERIES)
@pytest.mark.parametrize("name", ["preallocated", "granted"])
def test_a_forged_handle_is_refused(forgery: str, name: str) -> None:
    scene = Scene()
    handle = Handle(*FORGERIES[forgery](getattr(scene, name)))
    with pytest.raises(InvalidHandle):
        scene.claim(EncodedAt(handle))


def test_another_tasks_block_of_the_same_outbox_is_refused() -> None:
    scene = Scene()
    foreign = scene.block(P, Holder.WORKER, TASK_ID + 1)
    with pytest.raises(InvalidHandle, match="does not hold"):
        scene.claim(EncodedAt(handle_of(foreign)))


def test_one_blocks_generation_at_another_blocks_place_is_refused() -> None:
    scene = Scene()
    handle = Handle(OUTBOX, scene.preallocated.offset, 1, scene.granted.generation)
    with pytest.raises(InvalidHandle):
        scene.claim(EncodedAt(handle))


def test_a_block_whose_grant_was_not_sent_yet_is_refused() -> None:
    scene = Scene()
    found = scene.arena.allocate(OUTBOX_ID, 8 * P, Holder.WORKER, TASK_ID)
    assert found is not None
    scene.task.granted.append(found[0])
    with pytest.raises(InvalidHandle):
        scene.claim(EncodedAt(handle_of(found[0])))


def test_a_file_that_was_not_requested_is_refused() -> None:
    with pytest.raises(InvalidHandle, match="file"):
        Scene().claim(WrittenTo(10))


def test_a_requested_file_needs_no_block() -> None:
    assert Scene(to_file=True).claim(WrittenTo(10)) is None


def test_memory_instead_of_a_requested_file_is_refused() -> None:
    scene = Scene(to_file=True)
    with pytest.raises(InvalidHandle, match="file"):
        scene.claim(EncodedAt(handle_of(scene.preallocated)))


def test_an_output_takes_as_many_bytes_of_its_block_as_its_handle_says() -> None:
    scene = Scene()
    assert block_nbytes(EncodedAt(handle_of(scene.preallocated, 5))) == 5
    assert block_nbytes(EncodedAt(None)) == 0
    assert block_nbytes(WrittenTo(99)) == 0
