"""Memory broker: requests get memory at once, in turn, or an error."""

from __future__ import annotations

from typing import Any

from offloop.core.memory.arena import INBOX_ID, Arena
from offloop.core.memory.broker import MemoryBroker, worker_lease
from offloop.core.memory.budget import Budget
from offloop.core.memory.input_queue import caller_lease
from offloop.core.model.blocks import Block, Holder, Lease, Reservation
from offloop.core.model.commands import Command, ProvideInput, RefuseInput, ReservePages, Send
from offloop.core.model.settings import AdmissionMode
from offloop.core.model.task_record import TaskRecord
from offloop.errors import MemoryLimitExceeded
from offloop.wire.handles import OUTBOX, Handle
from offloop.wire.messages import Grant

from ..pool_script import SPEC

P = 4096
OUTBOX_ID, SLOT = 1, 0
PLENTY = 1 << 40


class Scene:
    """Ten pages, eight of them for the inbox, and one worker. Each step ends with `allocate_waiting`."""

    def __init__(self) -> None:
        self.arena = Arena(10 * P, 8 * P)
        self.arena.add_segment(OUTBOX_ID, 11 * P, keep=P)
        self.broker = MemoryBroker(self.arena, Budget(self.arena, None, AdmissionMode.OFF))
        self.running = 99  # running tasks: more than there are requests, so that one of them makes progress

    def serve(self) -> list[Command]:
        return self.broker.allocate_waiting(self.running, 0) + self.broker.refuse(self.running, 0)

    def hold(self, npages: int, segment_id: int = INBOX_ID) -> Block:
        """A block of so many pages that a caller holds."""
        found = self.arena.allocate(segment_id, npages * P, Holder.CALLER)
        assert found is not None
        block, reservation = found
        if reservation is not None:
            self.arena.release(block, Lease(Holder.RESERVATION, block.generation))
        return block

    def let_go(self, block: Block) -> list[Command]:
        self.arena.release(block, caller_lease(block))
        return self.serve()

    def warm(self, npages: int, segment_id: int) -> None:
        """Reserve pages and leave them unused."""
        self.let_go(self.hold(npages, segment_id))

    def ask(self, input_id: int, nbytes: int) -> list[Command]:
        return self.broker.request_input(input_id, nbytes) + self.serve()

    def cancel(self, input_id: int) -> list[Command]:
        self.broker.input_queue.cancel(input_id)
        return self.serve()

    def need(self, task: TaskRecord, npages: float) -> list[Command]:
        return self.broker.request_output(SLOT, OUTBOX_ID, task, int(npages * P)) + self.serve()

    def reserved(self, reservation: Reservation) -> list[Command]:
        return self.broker.pages_reserved(reservation) + self.serve()

    def refused(self, reservation: Reservation, free_bytes: int) -> list[Command]:
        self.broker.pages_refused(reservation, free_bytes)
        return self.serve()

    def starved(self, commands: list[Command], free_bytes: int = 0) -> list[Command]:
        """The system refuses all reservations. Returns the commands that remain after the last refusal."""
        answers: list[Command] = []
        for _ in range(10):
            answers += [command for command in commands if not isinstance(command, ReservePages)]
            wanted = [command.reservation for command in commands if isinstance(command, ReservePages)]
            if not wanted:
                return answers
            commands = [command for reservation in wanted for command in self.refused(reservation, free_bytes)]
        raise AssertionError("the same pages are asked for again and again")


def fetch(commands: list[Command]) -> Reservation:
    assert [type(command) for command in commands] == [ReservePages]
    command: Any = commands[0]
    return command.reservation


def test_an_input_whose_pages_are_there_is_provided_at_once() -> None:
    scene = Scene()
    scene.warm(2, INBOX_ID)
    commands = scene.ask(1, 2 * P)
    block = scene.arena.get(2)
    assert block is not None
    assert commands == [ProvideInput(1, block)]
    assert block.leases == {caller_lease(block)}


def test_an_input_is_provided_when_its_pages_have_come() -> None:
    scene = Scene()
    reservation = fetch(scene.ask(1, 2 * P))
    assert not scene.broker.has_waiters
    assert scene.reserved(reservation) == [ProvideInput(1, reservation.block)]
    assert reservation.block.leases == {caller_lease(reservation.block)}


def test_inputs_are_served_strictly_in_order() -> None:
    scene = Scene()
    held = scene.hold(6)
    assert scene.ask(1, 4 * P) == []
    assert scene.ask(2, P) == [], "a small request does not pass a large one"
    assert scene.broker.has_waiters
    commands = scene.let_go(held)
    assert [getattr(command, "input_id", None) for command in commands] == [1, 2]
    assert not scene.broker.has_waiters


def test_an_input_that_can_never_be_is_refused_with_both_numbers() -> None:
    scene = Scene()
    (refusal,) = scene.ask(1, 8 * P + 1)
    assert isinstance(refusal, RefuseInput)
    error: Any = refusal.error
    assert isinstance(error, MemoryLimitExceeded)
    assert (refusal.input_id, error.asked_bytes, error.limit_bytes) == (1, 8 * P + 1, 8 * P)
    assert not error.is_temporary
    assert "inbox" in str(error)
    assert not scene.broker.has_waiters


def test_the_largest_input_that_can_be_is_served() -> None:
    scene = Scene()
    assert fetch(scene.ask(1, 8 * P)).block.nbytes == 8 * P


def test_a_cancelled_input_request_makes_way() -> None:
    scene = Scene()
    held = scene.hold(6)
    scene.ask(1, 4 * P)
    scene.ask(2, 2 * P)
    assert [type(command) for command in scene.cancel(1)] == [ReservePages]
    assert held.nbytes == 6 * P


def test_the_block_of_a_cancelled_input_is_freed_when_its_pages_are_reserved() -> None:
    scene = Scene()
    reservation = fetch(scene.ask(1, 2 * P))
    assert scene.cancel(1) == []
    assert scene.arena.get(reservation.block.generation) is reservation.block, "its pages are still being reserved"
    assert scene.reserved(reservation) == []
    assert scene.arena.used_bytes == 0


def test_cancelling_an_unknown_request_does_nothing() -> None:
    assert Scene().cancel(99) == []


def test_a_grant_whose_pages_are_there_is_sent_at_once() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    scene.warm(2, OUTBOX_ID)
    commands = scene.need(task, 2 - 1 / P)
    (block,) = task.granted
    assert commands == [Send(SLOT, Grant(7, Handle(OUTBOX, block.offset, 2 * P - 1, block.generation)))]
    assert block.leases == {worker_lease(task)}
    assert task.requested_bytes is None


def test_a_grant_is_sent_when_its_pages_have_come() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    reservation = fetch(scene.need(task, 2))
    assert task.requested_bytes == 2 * P
    (command,) = scene.reserved(reservation)
    assert command == Send(SLOT, Grant(7, Handle(OUTBOX, P, 2 * P, reservation.block.generation)))
    assert task.requested_bytes is None


def test_a_grant_beyond_the_limit_is_refused_at_once_with_both_numbers() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    assert scene.need(task, 11) == [Send(SLOT, Grant(7, None))]
    assert task.grant_error is not None
    assert (task.grant_error.asked_bytes, task.grant_error.limit_bytes) == (11 * P, 10 * P)
    assert task.requested_bytes is None


def test_running_tasks_come_before_new_sources() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    held = scene.hold(8)
    scene.ask(1, P)
    assert scene.need(task, 3) == []
    kinds = [type(command) for command in scene.let_go(held)]
    assert kinds == [ReservePages, ReservePages]
    assert [block.nbytes for block in task.granted] == [3 * P]


def test_a_small_output_request_may_be_granted_while_a_large_one_waits() -> None:
    scene, large, small = Scene(), TaskRecord(7, 0.0, SPEC), TaskRecord(8, 0.0, SPEC)
    scene.hold(8)
    assert scene.need(large, 5) == []
    assert [type(command) for command in scene.need(small, 2)] == [ReservePages]


def test_a_task_that_has_ended_waits_for_nothing() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    held = scene.hold(8)
    scene.need(task, 5)
    scene.broker.cancel_output_request(task)
    assert not scene.broker.has_waiters
    assert scene.let_go(held) == []


def test_a_task_that_ended_while_its_pages_were_fetched_is_sent_nothing() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    reservation = fetch(scene.need(task, 2))
    scene.broker.cancel_output_request(task)
    task.granted.clear()
    scene.arena.release(reservation.block, worker_lease(task))
    assert scene.reserved(reservation) == []
    assert scene.arena.used_bytes == 0


def test_a_request_for_which_the_system_has_no_pages_is_refused_with_both_sizes() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    scene.running = 1
    assert scene.starved(scene.need(task, 2 + 1 / P), 5) == [Send(SLOT, Grant(7, None))]
    assert task.grant_error is not None
    assert (task.grant_error.asked_bytes, task.grant_error.limit_bytes) == (2 * P + 1, 5)
    assert (task.granted, scene.arena.used_bytes, scene.arena.reserved_bytes) == ([], 0, 0)


def test_a_grant_that_the_system_has_no_pages_for_waits_while_another_task_goes_on() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    held = scene.hold(2)
    assert scene.starved(scene.need(task, 2)) == []
    assert task.requested_bytes == 2 * P
    assert fetch(scene.let_go(held)).block.nbytes == 2 * P


def test_a_source_that_the_system_has_no_pages_for_waits_for_a_block_of_ours() -> None:
    scene = Scene()
    held = scene.hold(2)
    assert scene.starved(scene.ask(1, 4 * P)) == []
    assert scene.broker.has_waiters
    again = fetch(scene.let_go(held))
    assert scene.reserved(again) == [ProvideInput(1, again.block)]


def test_a_source_that_was_refused_pages_is_still_first() -> None:
    scene = Scene()
    held = scene.hold(2)
    reservation = fetch(scene.ask(1, 4 * P))
    scene.ask(2, 3 * P)
    scene.refused(reservation, 0)
    assert fetch(scene.let_go(held)[:1]).block.nbytes == 4 * P


def test_a_source_that_the_system_has_no_pages_for_is_refused_when_nothing_will_come_back() -> None:
    scene = Scene()
    (refusal,) = scene.starved(scene.ask(1, 3 * P + 1), P)
    assert isinstance(refusal, RefuseInput)
    error: Any = refusal.error
    assert (error.asked_bytes, error.limit_bytes) == (3 * P + 1, P)
    assert "/dev/shm" in str(error)
    assert error.is_temporary, "another process may release some"
    assert (scene.arena.used_bytes, scene.broker.has_waiters) == (0, False)


def test_two_sources_that_were_refused_pages_both_hear_of_it_in_their_order() -> None:
    scene = Scene()
    answers = scene.starved(scene.ask(1, 2 * P) + scene.ask(2, 2 * P))
    assert [command.input_id for command in answers if isinstance(command, RefuseInput)] == [1, 2]
    assert not scene.broker.has_waiters


def test_a_refused_reservation_of_a_cancelled_request_makes_way() -> None:
    scene = Scene()
    first = fetch(scene.ask(1, 7 * P))
    assert scene.ask(2, 7 * P) == []
    scene.cancel(1)
    assert [type(command) for command in scene.refused(first, PLENTY)] == [ReservePages]


def test_when_the_pool_closes_all_that_wait_are_told() -> None:
    scene = Scene()
    reservation = fetch(scene.ask(1, 7 * P))
    scene.ask(2, 7 * P)
    refusals = scene.broker.close()
    assert {refusal.input_id for refusal in refusals if isinstance(refusal, RefuseInput)} == {1, 2}
    assert scene.reserved(reservation) == []
    assert scene.arena.used_bytes == 0


def test_preallocated_memory_has_pages_that_were_reserved_before() -> None:
    scene = Scene()
    assert scene.broker.try_preallocate(OUTBOX_ID, 2 * P) is None
    scene.warm(2, OUTBOX_ID)
    block = scene.broker.try_preallocate(OUTBOX_ID, 2 * P)
    assert block is not None
    assert block.leases == {Lease(Holder.PREALLOCATED, OUTBOX_ID)}


def test_preallocated_blocks_never_use_memory_that_sources_may_need() -> None:
    scene = Scene()
    scene.warm(6, OUTBOX_ID)
    assert scene.broker.try_preallocate(OUTBOX_ID, 2 * P) is not None
    assert scene.broker.try_preallocate(OUTBOX_ID, 2 * P) is None
    assert fetch(scene.ask(1, 8 * P)).block.nbytes == 8 * P


def test_prefetching_reserves_pages_that_no_block_uses_afterwards() -> None:
    scene = Scene()
    reservation = fetch(scene.broker.prefetch(OUTBOX_ID, 2 * P))
    assert scene.reserved(reservation) == []
    assert (scene.arena.used_bytes, scene.arena.reserved_bytes) == (0, 2 * P)
    assert scene.broker.prefetch(OUTBOX_ID, 2 * P) == [], "the pages are reserved already"


def test_priming_is_left_out_where_there_is_no_room() -> None:
    scene = Scene()
    scene.hold(8)
    scene.hold(2, OUTBOX_ID)
    assert scene.broker.prefetch(OUTBOX_ID, P) == []


def test_waiting_requests_get_the_pages_that_a_refused_prefetch_leaves() -> None:
    scene = Scene()
    reservation = fetch(scene.broker.prefetch(OUTBOX_ID, 2 * P))
    scene.refused(reservation, PLENTY)
    assert (scene.arena.used_bytes, scene.arena.reserved_bytes) == (0, 0)


def test_a_refused_priming_is_not_tried_again_until_the_outbox_has_got_pages_otherwise() -> None:
    scene = Scene()
    scene.refused(fetch(scene.broker.prefetch(OUTBOX_ID, P)), PLENTY)
    assert scene.broker.prefetch(OUTBOX_ID, P) == []
    task = TaskRecord(7, 0.0, SPEC)
    scene.reserved(fetch(scene.need(task, 1)))
    assert fetch(scene.broker.prefetch(OUTBOX_ID, P))


def test_prefetching_releases_no_pages_and_uses_none_that_sources_may_need() -> None:
    scene = Scene()
    assert scene.broker.prefetch(OUTBOX_ID, 3 * P) == []
    scene.warm(8, INBOX_ID)
    assert fetch(scene.broker.prefetch(OUTBOX_ID, P)).to_release == ()
    assert scene.arena.unreserved_bytes == P
    scene.warm(1, OUTBOX_ID)
    scene.hold(2, OUTBOX_ID)
    assert scene.broker.prefetch(OUTBOX_ID, P) == []


def test_if_every_running_task_waits_and_only_they_hold_memory_the_youngest_is_refused() -> None:
    scene, old, young = Scene(), TaskRecord(7, 0.0, SPEC), TaskRecord(8, 0.0, SPEC)
    held = scene.hold(8)
    old.source_blocks = (held,)
    scene.arena.acquire(held, Lease(Holder.TASK, 7))
    scene.arena.release(held, caller_lease(held))
    scene.running = 2
    assert scene.need(old, 5) == [], "the other task makes progress"
    assert scene.need(young, 6) == [Send(SLOT, Grant(8, None))]
    assert young.grant_error is not None
    assert young.grant_error.asked_bytes == 6 * P
    assert young.grant_error.limit_bytes == 2 * P, "the capacity beside the other blocks"
    assert young.grant_error.is_temporary, "the other task ends some time"
    assert old.requested_bytes == 5 * P


def test_no_request_is_refused_while_a_caller_could_release_memory() -> None:
    scene, task = Scene(), TaskRecord(7, 0.0, SPEC)
    scene.hold(8)
    scene.running = 1
    assert scene.need(task, 5) == []


def test_no_request_is_refused_while_pages_for_a_grant_are_being_reserved() -> None:
    scene, lucky, waiting = Scene(), TaskRecord(7, 0.0, SPEC), TaskRecord(8, 0.0, SPEC)
    scene.running = 2
    fetch(scene.need(lucky, 6))
    assert scene.need(waiting, 6) == []
