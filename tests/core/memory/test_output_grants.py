"""Grants with credit: a block for each of a stream's next outputs, from memory that nothing else needs."""

from __future__ import annotations

from offloop.core.memory.arena import Arena
from offloop.core.memory.broker import MemoryBroker, worker_lease
from offloop.core.memory.budget import Budget
from offloop.core.memory.output_grants import grant_next_outputs
from offloop.core.model.blocks import Holder, Lease
from offloop.core.model.commands import Command
from offloop.core.model.settings import AdmissionMode
from offloop.core.model.task_record import TaskRecord
from offloop.wire.handles import Handle

from ..pool_script import SPEC, reservations

P = 4096
OUTBOX_ID = 1


class Scene:
    """A hundred pages, and a stream whose outputs have one page."""

    def __init__(self, reserved_pages: int) -> None:
        self.arena = Arena(100 * P, 90 * P)
        self.arena.add_segment(OUTBOX_ID, 101 * P, keep=P)
        self.task = TaskRecord(7, 0.0, SPEC)
        self.task.last_request_bytes = P
        allocated = self.arena.allocate(OUTBOX_ID, reserved_pages * P, Holder.CALLER)
        assert allocated is not None
        for holder in (Holder.RESERVATION, Holder.CALLER):
            self.arena.release(allocated[0], Lease(holder, allocated[0].generation))
        self.broker = MemoryBroker(self.arena, Budget(self.arena, None, AdmissionMode.OFF))
        self.fetched: list[Command] = []

    def grant(self, count: int) -> list[Handle]:
        """Grant blocks, and carry out the reservations that follow."""
        handles, commands = grant_next_outputs(self.arena, self.broker, OUTBOX_ID, self.task, count)
        for reservation in reservations(commands):
            self.broker.pages_reserved(reservation)
        self.fetched += commands
        return handles


def test_a_stream_has_a_block_for_each_output_and_one_more() -> None:
    scene = Scene(9)
    handles = scene.grant(2)
    assert [handle.nbytes for handle in handles] == [P, P, P]
    assert [block.generation for block in scene.task.granted] == [handle.generation for handle in handles]
    assert all(block.leases == {worker_lease(scene.task)} for block in scene.task.granted)
    assert scene.grant(2) == [], "it has not used them"
    assert len(scene.grant(4)) == 2


def test_a_stream_that_has_requested_no_memory_gets_none() -> None:
    scene = Scene(9)
    scene.task.last_request_bytes = 0
    assert scene.grant(2) == []


def test_grants_have_reserved_pages_and_more_are_reserved_for_later_ones() -> None:
    scene = Scene(2)
    assert len(scene.grant(4)) == 2
    assert scene.arena.reserved_bytes == 3 * P
    assert (len(scene.grant(4)), len(scene.grant(4)), len(scene.grant(4))) == (1, 1, 1)
    assert len(scene.fetched) == 3
    assert (scene.grant(4), len(scene.fetched)) == ([], 3), "it has all blocks that it may have"


def test_nothing_is_granted_or_reserved_while_a_request_waits() -> None:
    scene = Scene(2)
    scene.broker.request_input(1, P)
    assert (scene.grant(4), scene.fetched) == ([], [])


def test_a_stream_has_a_sixteenth_of_the_memory_in_advance_at_most() -> None:
    scene = Scene(50)
    scene.task.last_request_bytes = 3 * P
    assert len(scene.grant(9)) == 2
    scene = Scene(50)
    scene.task.last_request_bytes = 7 * P
    assert scene.grant(9) == []


def test_grants_stay_within_the_budget() -> None:
    scene = Scene(9)
    scene.arena.effective_capacity_bytes = P
    assert len(scene.grant(4)) == 1
