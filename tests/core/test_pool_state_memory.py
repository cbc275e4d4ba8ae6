"""Memory requests of a `PoolState`: waiting, refused, and released."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.core.memory.stall_limit import MEMORY_WAIT_S
from offloop.core.model.commands import Command, ConfirmGrowth, ProvideInput, RefuseInput, ReservePages, RestageSource, Send
from offloop.core.model.events import InputCancelled, InputCompleted
from offloop.core.model.task import Completed
from offloop.errors import MemoryLimitExceeded
from offloop.wire.handles import OUTBOX, Handle
from offloop.wire.messages import Cancel, Grant

from .pool_script import KIB, MIB, PLENTY, PoolScript, in_outbox, of_type, only, outcome_of, reservations, runs


def small(workers: int = 1, *, pages: bool = False) -> PoolScript:
    """A pool with one MiB, of which 768 KiB are for sources."""
    return PoolScript(workers, limit_bytes=MIB, inbox_nbytes=768 * KIB).opened(pages=pages)


def starved(pool: PoolScript, commands: list[Command], free_bytes: int = 12 * KIB) -> list[Command]:
    """Refuse all reservations until there are none. Returns the other commands."""
    answers: list[Command] = []
    for _ in range(10):
        answers += [command for command in commands if not isinstance(command, ReservePages)]
        wanted = reservations(commands)
        if not wanted:
            return answers
        commands = [command for reservation in wanted for command in pool.refused(reservation, free_bytes)]
    raise AssertionError("the same pages are requested again and again")


def test_a_running_task_gets_the_memory_that_it_needs() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    (reservation,) = reservations(pool.need(1, 5000))
    block = reservation.block
    assert pool.reserved(reservation) == [Send(0, Grant(1, Handle(OUTBOX, block.offset, 5000, block.generation)))]
    assert pool.statistics.leases["worker"] == 1


def test_what_a_task_was_granted_and_did_not_use_is_free_with_its_answer() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    first, second = pool.granted(1, 5000), pool.granted(1, 9000)
    outcome = outcome_of(pool.done(1, output=in_outbox(first, 10)), 1)
    assert isinstance(outcome, Completed)
    assert outcome.output is not None
    assert (outcome.output.block, first.nbytes) == (first, 4096)
    assert pool.core.arena.get(second.generation) is None


def test_a_need_beyond_the_limit_is_refused_and_the_caller_gets_both_numbers() -> None:
    pool = small()
    pool.run(1)
    assert pool.need(1, 2 * MIB) == [Send(0, Grant(1, None))]
    error = outcome_of(pool.failed(1, code="memory_limit"), 1)
    assert isinstance(error, MemoryLimitExceeded)
    assert (error.asked_bytes, error.limit_bytes) == (2 * MIB, MIB)


def test_an_input_beyond_the_inbox_is_refused_with_both_numbers() -> None:
    (refusal,) = small().request(10, MIB)
    assert isinstance(refusal, RefuseInput)
    error: Any = refusal.error
    assert (error.asked_bytes, error.limit_bytes) == (MIB, 768 * KIB)


def test_inputs_wait_in_order_and_are_provided_when_a_block_is_returned() -> None:
    pool = small()
    held = pool.input(10, 700 * KIB)
    assert pool.request(11, 600 * KIB) == []
    assert pool.request(12, 80 * KIB) == []
    commands = pool.give_back(held)
    assert [provided.input_id for provided in of_type(commands, ProvideInput)] == [11, 12]


def test_small_inputs_overtake_a_large_one_until_together_they_were_as_large() -> None:
    pool = small()
    pool.input(10, 600 * KIB)
    assert pool.request(11, 640 * KIB) == []
    for number in range(16):
        passing = pool.input(100 + number, 40 * KIB)
        pool.give_back(passing)
    assert pool.request(200, 40 * KIB) == [], "enough small inputs have overtaken the large one"


def test_a_running_task_gets_memory_before_an_earlier_source() -> None:
    pool = small()
    held = pool.input(10, 700 * KIB)
    pool.run(1)
    assert pool.request(11, 700 * KIB) == []
    assert pool.need(1, 500 * KIB) == []
    commands = pool.give_back(held)
    assert [reservation.block.segment_id for reservation in reservations(commands)] == [1], "the worker's outbox"
    assert pool.core.broker.has_waiters


def test_a_task_that_is_being_stopped_waits_for_no_memory() -> None:
    pool = small()
    held = pool.input(10, 700 * KIB)
    pool.run(1)
    assert pool.need(1, 500 * KIB) == []
    assert pool.cancel(1) == [Send(0, Cancel(1))]
    assert pool.give_back(held) == []
    assert pool.statistics.memory_used_bytes == 0


def test_the_memory_of_a_settled_task_goes_to_waiting_requests() -> None:
    pool = small()
    source = pool.input(10, 700 * KIB)
    pool.run(1, source)
    pool.give_back(source)
    assert pool.request(11, 700 * KIB) == []
    assert of_type(pool.done(1), ProvideInput) == [ProvideInput(11, only(list(pool.core.arena._blocks.values())))]


def test_the_memory_of_a_dead_worker_goes_to_waiting_requests() -> None:
    pool = small()
    pool.run(1)
    pool.granted(1, 900 * KIB)
    assert pool.request(11, 700 * KIB) == []
    assert reservations(pool.exited())


def test_the_memory_of_a_late_result_goes_to_waiting_requests() -> None:
    pool = small()
    pool.run(1)
    block = pool.granted(1, 900 * KIB)
    assert pool.request(11, 700 * KIB) == []
    pool.cancel(1)
    assert reservations(pool.done(1, output=in_outbox(block, 900 * KIB)))


def test_the_rest_of_a_short_results_block_goes_to_waiting_requests() -> None:
    pool = small()
    pool.run(1)
    block = pool.granted(1, 900 * KIB)
    assert pool.request(11, 700 * KIB) == []
    assert reservations(pool.done(1, output=in_outbox(block, 10)))


def test_after_an_input_is_cancelled_the_next_one_is_provided() -> None:
    pool = small()
    held = pool.input(10, 300 * KIB)
    pool.request(11, 700 * KIB)
    pool.request(12, 100 * KIB)
    assert [r.block.nbytes for r in reservations(pool.handle(InputCancelled(11)))] == [100 * KIB]
    assert held.nbytes == 300 * KIB


def test_if_all_running_tasks_wait_for_memory_the_youngest_is_refused_and_the_other_goes_on() -> None:
    pool = small(2)
    source = pool.input(10, 700 * KIB)
    pool.run(1, source)
    pool.run(2)
    pool.give_back(source)
    first, second = pool.core.worker_table
    assert first.task is not None
    assert second.task is not None
    assert pool.need(first.task.task_id, 900 * KIB, 0) == []
    refusal = pool.need(second.task.task_id, 901 * KIB, 1)
    assert refusal == [Send(1, Grant(second.task.task_id, None))]


def test_a_deadlock_that_arises_when_a_caller_returns_a_block_is_refused_too() -> None:
    pool = small()
    source, held = pool.input(10, 512 * KIB), pool.input(11, 128 * KIB)
    pool.run(1, source)
    pool.give_back(source)
    assert pool.need(1, 900 * KIB) == [], "the caller may return its block"
    assert pool.give_back(held) == [Send(0, Grant(1, None))]


def test_the_source_of_a_waiting_task_is_released_for_a_running_tasks_result_and_staged_again() -> None:
    pool = small()
    sources = [pool.input(10 + number, 256 * KIB) for number in range(2)]
    pool.run(1)
    for number, source in enumerate(sources):
        pool.run(2 + number, source, stageable_again=True)
    pool.give_back(*sources)
    commands = pool.need(1, 700 * KIB)
    assert of_type(commands, RestageSource) == [RestageSource(3)], "only the last source in the queue, because it is enough"
    assert only(reservations(commands)).block.nbytes == 700 * KIB
    assert pool.request_source(3, 256 * KIB) == [], "the source waits for its turn"
    assert pool.statistics.waiting == 2


def test_a_task_waits_for_results_that_callers_hold_with_a_limit_and_the_error_names_them() -> None:
    pool = small()
    held = [pool.input(10, 300 * KIB), pool.input(11, 300 * KIB)]
    for task_id in (1, 2):
        pool.run(task_id, timeout_s=5.0)
    assert pool.need(1, 700 * KIB) == []
    assert pool.at(MEMORY_WAIT_S - 0.1) == [], "its timeout is paused while it waits"
    assert pool.core.wake_at == MEMORY_WAIT_S
    assert of_type(pool.at(MEMORY_WAIT_S), Send) == [Send(0, Grant(1, None))]
    error = outcome_of(commands := pool.failed(1, code="memory_limit"), 1)
    assert isinstance(error, MemoryLimitExceeded)
    assert "callers released no memory for 30 s: 2 sources or buffers of callers have 614,400 bytes" in str(error)
    assert only(runs(commands)).message.task_id == 2
    assert of_type(pool.need(2, 700 * KIB), Send) == [Send(0, Grant(2, None))], "no block was returned since"
    pool.failed(2)
    pool.at(MEMORY_WAIT_S + 1.0)
    pool.run(3)
    assert pool.need(3, 700 * KIB) == [], "a later request has the whole limit"
    assert only(reservations(pool.give_back(*held))).block.nbytes == 700 * KIB


def test_a_returned_block_restarts_the_limit() -> None:
    pool = small()
    first, _second = pool.input(10, 100 * KIB), pool.input(11, 600 * KIB)
    pool.run(1)
    assert pool.need(1, 700 * KIB) == []
    pool.at(MEMORY_WAIT_S - 1.0)
    assert pool.give_back(first) == []
    assert pool.at(MEMORY_WAIT_S) == []
    assert pool.core.wake_at == 2 * MEMORY_WAIT_S - 1.0


def test_asking_the_system_for_pages_again_and_again_does_not_restart_the_limit() -> None:
    pool = small()
    _held = pool.input(10, 100 * KIB)
    pool.run(1)
    assert starved(pool, pool.need(1, 700 * KIB)) == []
    assert starved(pool, pool.request(11, 600 * KIB)) == [], "a second request waits while the pages of the first are reserved"
    for second in range(1, int(MEMORY_WAIT_S)):
        assert starved(pool, pool.at(float(second))) == [], "the system refuses the pages each time"
    assert of_type(starved(pool, pool.at(MEMORY_WAIT_S)), Send) == [Send(0, Grant(1, None))]
    assert isinstance(outcome_of(pool.failed(1, code="memory_limit"), 1), MemoryLimitExceeded)


def test_short_tasks_in_between_do_not_restart_the_limit() -> None:
    pool = small()
    _held = pool.input(10, 600 * KIB)
    assert pool.request(11, 600 * KIB) == []
    for second in range(1, int(MEMORY_WAIT_S)):
        assert pool.at(float(second)) == []
        pool.run(100 + second)
        pool.clock.advance_to(second + 0.125)
        pool.done(100 + second)
    limit_s = MEMORY_WAIT_S + (MEMORY_WAIT_S - 1) * 0.125  # it stands still while a task runs, because that may release memory
    assert pool.core.wake_at == limit_s
    assert only(of_type(pool.at(limit_s), RefuseInput)).input_id == 11


def test_sources_are_not_released_for_a_result_before_the_limit_although_a_task_ran_for_long() -> None:
    pool = small(2)
    _held, source = pool.input(10, 100 * KIB), pool.input(11, 256 * KIB)
    pool.run(1)
    pool.run(2)
    pool.run(3, source, stageable_again=True)
    pool.give_back(source)
    assert pool.need(1, 700 * KIB, pool.slot_of(1)) == []
    pool.clock.advance_to(2 * MEMORY_WAIT_S)
    assert pool.need(2, 700 * KIB, pool.slot_of(2)) == [], "the other task might have released memory until now"
    assert of_type(pool.at(3 * MEMORY_WAIT_S - 1.0), RestageSource) == []
    assert of_type(pool.at(3 * MEMORY_WAIT_S), RestageSource) == [RestageSource(3)]


def test_the_wait_for_result_memory_does_not_count_towards_the_timeout() -> None:
    pool = small()
    held = pool.input(10, 600 * KIB)
    pool.run(1, timeout_s=5.0)
    pool.at(2.0)
    pool.need(1, 700 * KIB)
    pool.at(20.0)
    for reservation in reservations(pool.give_back(held)):
        pool.reserved(reservation)
    assert pool.core.worker_table[0].timer == 23.0
    assert only(of_type(pool.at(23.0), Send)).message == Cancel(1)


def test_a_source_waits_for_memory_that_callers_hold_with_a_limit() -> None:
    pool = small()
    _held = pool.input(10, 600 * KIB)
    assert pool.request(11, 600 * KIB) == []
    refusal = only(of_type(pool.at(MEMORY_WAIT_S), RefuseInput))
    assert refusal.input_id == 11
    assert refusal.error.asked_bytes == 600 * KIB
    assert refusal.error.is_temporary, "callers release it some time"


def test_one_refusal_of_the_system_is_forgotten_after_a_second_although_a_result_is_held() -> None:
    pool = small()
    _held = pool.input(10, 100 * KIB)
    assert starved(pool, pool.request(11, 200 * KIB)) == []
    assert pool.core.wake_at == 1.0
    assert only(reservations(pool.at(1.0))).block.nbytes == 200 * KIB


def test_a_stream_grows_in_its_own_addresses_and_never_moves() -> None:
    pool = with_addresses()
    block = pool.stream(10, 64 * KIB, 768 * KIB)
    for input_id, nbytes in ((11, 128 * KIB), (12, 768 * KIB)):
        assert only(of_type(pool.grown(input_id, block, nbytes), ConfirmGrowth)).input_id == input_id
        assert block.nbytes == nbytes
    assert only(of_type(pool.grow(13, block, 768 * KIB + 1), RefuseInput)).error.limit_bytes == 768 * KIB
    pool.handle(InputCompleted(block.generation, 300 * KIB))
    assert (block.nbytes, pool.core.arena.used_bytes) == (300 * KIB, 300 * KIB)
    pool.give_back(block)
    assert pool.core.arena.used_bytes == 0


def test_if_streams_that_hold_all_memory_cannot_go_on_the_youngest_is_refused() -> None:
    pool = with_addresses()
    old, young = (pool.stream(10 + number, 384 * KIB, 768 * KIB) for number in range(2))
    assert pool.grow(12, old, 512 * KIB) == [], "the other stream may end"
    refusal = only(of_type(pool.grow(13, young, 512 * KIB), RefuseInput))
    assert refusal.input_id == 13
    assert "streams that are being received hold 786,432 bytes" in str(refusal.error)
    assert only(reservations(pool.give_back(young))).block is old


def test_a_growing_stream_goes_before_new_sources_except_small_ones() -> None:
    pool = with_addresses()
    held, stream = pool.input(10, 384 * KIB), pool.stream(11, 256 * KIB, 768 * KIB)
    assert pool.grow(12, stream, 512 * KIB) == []
    assert pool.request(13, 100 * KIB) == [], "the memory is free, but the stream needs it"
    assert pool.request(14, 4 * KIB) != []
    assert only(reservations(pool.give_back(held))).block is stream


def test_a_growth_whose_pages_are_refused_is_undone_and_waits_again() -> None:
    pool = with_addresses()
    block = pool.stream(10, 64 * KIB, 768 * KIB)
    _other = pool.input(11, 64 * KIB)
    pool.refused(only(reservations(pool.grow(12, block, 256 * KIB))))
    assert block.nbytes == 64 * KIB
    assert only(reservations(pool.at(1.0))).block is block


@pytest.mark.parametrize("closes", [False, True])
def test_a_growth_that_is_not_wanted_any_more_is_undone_if_its_pages_are_refused(closes: bool) -> None:
    pool = with_addresses()
    block = pool.stream(10, 64 * KIB, 768 * KIB)
    reservation = only(reservations(pool.grow(11, block, 256 * KIB)))
    if closes:
        pool.close()
    else:
        pool.handle(InputCancelled(11))
    assert pool.refused(reservation) == []
    assert (block.nbytes, pool.core.arena.used_bytes) == (64 * KIB, 64 * KIB), "its caller may read what has come"
    assert not pool.core.broker.has_waiters
    pool.give_back(block)
    assert pool.core.arena.used_bytes == 0


def test_a_stream_that_is_abandoned_while_it_grows_releases_all_its_memory() -> None:
    pool = with_addresses()
    block = pool.stream(10, 64 * KIB, 768 * KIB)
    reservation = only(reservations(pool.grow(11, block, 256 * KIB)))
    pool.handle(InputCancelled(11))
    pool.give_back(block)
    assert pool.reserved(reservation) == []
    assert pool.core.arena.used_bytes == 0


def test_when_the_pool_closes_a_waiting_stream_gets_an_error() -> None:
    pool = with_addresses()
    _held, block = pool.input(10, 700 * KIB), pool.stream(11, 64 * KIB, 768 * KIB)
    assert pool.grow(12, block, 128 * KIB) == []
    assert [refusal.input_id for refusal in of_type(pool.close(), RefuseInput)] == [12]


def with_addresses() -> PoolScript:
    """A pool with one MiB, of which 768 KiB are for the inbox, which has the addresses of 8 MiB."""
    return PoolScript(1, limit_bytes=MIB, inbox_nbytes=768 * KIB, inbox_addresses_nbytes=8 * MIB).opened()


def test_a_source_waits_while_the_system_has_no_pages_and_a_block_of_the_pool_may_be_returned() -> None:
    pool = small()
    held = pool.input(10, 100 * KIB)
    assert starved(pool, pool.request(11, 200 * KIB)) == []
    assert pool.core.broker.has_waiters
    assert reservations(pool.give_back(held))


def test_a_source_is_refused_with_numbers_when_the_system_has_no_pages_and_no_block_will_be_returned() -> None:
    pool = small()
    (refusal,) = starved(pool, pool.request(11, 200 * KIB + 1))
    assert isinstance(refusal, RefuseInput)
    error: Any = refusal.error
    assert (error.asked_bytes, error.limit_bytes) == (200 * KIB + 1, 12 * KIB)
    assert "/dev/shm" in str(error)
    assert not pool.core.broker.has_waiters


def test_sources_that_the_system_has_no_pages_for_are_refused_in_their_order() -> None:
    pool = small()
    answers = starved(pool, pool.request(11, 200 * KIB) + pool.request(12, 100 * KIB))
    assert [refusal.input_id for refusal in of_type(answers, RefuseInput)] == [11, 12]
    assert (pool.core.broker.has_waiters, pool.statistics.memory_used_bytes) == (False, 0)


def test_after_a_refusal_the_system_is_asked_again() -> None:
    pool = small()
    starved(pool, pool.request(11, 200 * KIB), 0)
    (reservation,) = reservations(pool.request(12, 200 * KIB))
    assert of_type(pool.reserved(reservation), ProvideInput)


def test_a_refusal_without_a_waiting_request_is_forgotten() -> None:
    pool = PoolScript()
    pool.start()
    (priming,) = reservations(pool.report_ready())
    pool.refused(priming, 0)
    assert reservations(pool.request(11, MIB))


def test_requests_do_not_wait_for_an_idle_workers_preallocated_memory() -> None:
    pool = PoolScript().opened(pages=True)
    pool.run(1)
    pool.done(1)
    assert pool.statistics.leases["preallocated"] == 1
    assert of_type(starved(pool, pool.request(11, MIB)), RefuseInput)


def test_an_input_that_the_inbox_could_hold_does_not_wait_for_ever_for_idle_workers() -> None:
    pool = small(4, pages=True)
    for task_id in range(1, 5):
        pool.run(task_id)
    for slot in pool.core.worker_table:
        assert slot.task is not None
        pool.done(slot.task.task_id, slot.index)
    assert pool.request(11, 768 * KIB) != []


def test_a_shortage_that_is_over_is_forgotten_although_a_worker_has_preallocated_memory() -> None:
    pool = PoolScript().opened(pages=True)
    pool.run(1)
    pool.done(1)
    held = pool.input(10, 4096)
    (reservation,) = reservations(pool.request(11, 2 * MIB))
    pool.refused(reservation, 0)
    pool.handle(InputCancelled(11))
    pool.give_back(held)
    assert reservations(pool.request(12, 2 * MIB))


def test_a_running_task_is_refused_if_the_system_has_no_pages_and_its_worker_stays() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    assert starved(pool, pool.need(1, MIB + 1)) == [Send(0, Grant(1, None))]
    error = outcome_of(pool.failed(1, code="memory_limit"), 1)
    assert isinstance(error, MemoryLimitExceeded)
    assert (error.asked_bytes, error.limit_bytes) == (MIB + 1, 12 * KIB)
    assert "/dev/shm" in str(error)
    assert pool.statistics.memory_reserved_bytes == 0


def test_pages_that_are_reserved_after_their_task_has_ended_are_kept_for_others() -> None:
    pool = PoolScript().opened()
    pool.run(1)
    (reservation,) = reservations(pool.need(1, MIB))
    pool.cancel(1)
    pool.failed(1)
    assert pool.statistics.memory_used_bytes == MIB, "the pages are being reserved"
    assert pool.reserved(reservation) == []
    assert (pool.statistics.memory_used_bytes, pool.statistics.memory_reserved_bytes) == (0, MIB)


def test_after_a_refusal_for_a_task_that_has_ended_waiting_requests_go_on() -> None:
    pool = small()
    pool.run(1)
    (reservation,) = reservations(pool.need(1, 900 * KIB))
    assert pool.request(11, 700 * KIB) == []
    pool.cancel(1)
    pool.failed(1)
    assert reservations(pool.refused(reservation, PLENTY))


def test_the_pages_of_a_new_workers_first_grant_are_prefetched() -> None:
    pool = PoolScript()
    pool.start()
    (reservation,) = reservations(pool.report_ready())
    assert reservation.block.nbytes == 256 * KIB
    assert pool.reserved(reservation) == []
    assert (pool.statistics.memory_used_bytes, pool.statistics.memory_reserved_bytes) == (0, 256 * KIB)


def test_a_running_task_is_not_refused_memory_that_a_prefetch_uses_for_a_moment() -> None:
    pool = small(pages=True)
    grant = only(of_type(pool.run(1), Send)).message.grant
    result = pool.core.arena.get(grant.generation)
    assert result is not None
    pool.done(1, output=in_outbox(result, 1000))
    (priming,) = reservations(pool.run(2))
    pool.give_back(result)
    assert pool.need(2, MIB) == [], "the reservation is still in progress"
    (reservation,) = reservations(pool.reserved(priming))
    assert only(of_type(pool.reserved(reservation), Send)).message.block is not None


def test_pages_that_a_dead_worker_was_refused_are_forgotten_with_it() -> None:
    pool = PoolScript().opened()
    assert pool.core.broker._prefetching
    pool.exited()
    assert not pool.core.broker._prefetching


def test_pages_move_from_the_inbox_to_an_outbox_within_the_limit() -> None:
    pool = small()
    pool.give_back(pool.input(10, 768 * KIB))
    pool.run(1)
    (reservation,) = reservations(pool.need(1, 900 * KIB))
    assert sum(span.end - span.start for span in reservation.to_release) == 644 * KIB
    assert pool.statistics.memory_reserved_bytes == MIB
