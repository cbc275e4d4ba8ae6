"""Arena: leases, capacity, and the plan of page reservations and releases."""

from __future__ import annotations

import pytest

from offloop.core.memory.arena import INBOX_ID, Arena
from offloop.core.model.blocks import Block, Holder, Lease, Reservation, Span

P = 4096
OUTBOX_ID = 1


def arena_of(limit_pages: int = 16, inbox_pages: int = 12, outbox_pages: int = 17) -> Arena:
    arena = Arena(limit_pages * P, inbox_pages * P)
    arena.add_segment(OUTBOX_ID, outbox_pages * P, keep=P)
    return arena


def cut(arena: Arena, npages: int, segment_id: int = INBOX_ID) -> tuple[Block, Reservation | None]:
    """A block for a caller."""
    found = arena.allocate(segment_id, npages * P, Holder.CALLER)
    assert found is not None
    return found


def carried_out(arena: Arena, found: tuple[Block, Reservation | None]) -> Block:
    """The block after its pages were reserved."""
    block, reservation = found
    if reservation is not None:
        arena.release(block, Lease(Holder.RESERVATION, block.generation))
    return block


def let_go(arena: Arena, block: Block) -> None:
    arena.release(block, Lease(Holder.CALLER, block.generation))


def test_a_block_is_whole_pages_and_held_by_its_own_generation() -> None:
    arena = arena_of()
    found = arena.allocate(INBOX_ID, P + 1, Holder.CALLER)
    assert found is not None
    block, reservation = found
    assert (block.segment_id, block.offset, block.nbytes) == (INBOX_ID, 0, 2 * P)
    assert Lease(Holder.CALLER, block.generation) in block.leases
    assert reservation == Reservation(block, (), (Span(INBOX_ID, 0, 2 * P),))


def test_an_owner_may_be_named() -> None:
    arena = arena_of()
    found = arena.allocate(OUTBOX_ID, 1, Holder.WORKER, 77)
    assert found is not None
    assert Lease(Holder.WORKER, 77) in found[0].leases


def test_generations_are_never_used_twice() -> None:
    arena = arena_of()
    seen: set[int] = set()
    for _ in range(20):
        block = carried_out(arena, cut(arena, 1))
        assert block.generation not in seen
        seen.add(block.generation)
        let_go(arena, block)


def test_the_first_bytes_of_an_outbox_are_kept() -> None:
    arena = arena_of(outbox_pages=5)
    block, _ = cut(arena, 4, OUTBOX_ID)
    assert block.offset == P
    assert arena.allocate(OUTBOX_ID, 1, Holder.CALLER) is None


def test_a_block_lives_until_its_last_lease_goes() -> None:
    arena = arena_of()
    block = carried_out(arena, cut(arena, 1))
    arena.acquire(block, Lease(Holder.TASK, 5))
    let_go(arena, block)
    assert arena.get(block.generation) is block
    arena.release(block, Lease(Holder.TASK, 5))
    assert arena.get(block.generation) is None
    assert arena.used_bytes == 0


def test_a_block_is_not_free_while_its_pages_are_fetched() -> None:
    arena = arena_of()
    block, reservation = cut(arena, 1)
    assert reservation is not None
    let_go(arena, block)
    assert cut(arena, 1)[0].offset != block.offset
    arena.release(block, Lease(Holder.RESERVATION, block.generation))
    assert arena.get(block.generation) is None


def test_the_same_lease_cannot_be_acquired_twice() -> None:
    arena = arena_of()
    block, _ = cut(arena, 1)
    with pytest.raises(ValueError, match="is held on block"):
        arena.acquire(block, Lease(Holder.CALLER, block.generation))
    assert arena.leases[Holder.CALLER] == 1


def test_a_lease_that_is_not_held_cannot_be_released() -> None:
    arena = arena_of()
    block, _ = cut(arena, 1)
    with pytest.raises(KeyError):
        arena.release(block, Lease(Holder.TASK, 5))
    assert arena.leases[Holder.TASK] == 0


def test_leases_are_counted_by_holder() -> None:
    arena = arena_of()
    block, _ = cut(arena, 1)
    arena.acquire(block, Lease(Holder.TASK, 5))
    arena.acquire(block, Lease(Holder.TASK, 6))
    assert {holder: arena.leases[holder] for holder in Holder} == {
        Holder.CALLER: 1,
        Holder.TASK: 2,
        Holder.STAGER: 0,
        Holder.WORKER: 0,
        Holder.READER: 0,
        Holder.DELIVERY: 0,
        Holder.PREALLOCATED: 0,
        Holder.RESERVATION: 1,
        Holder.ABANDONED: 0,
    }


def test_pages_that_are_there_need_no_reservation() -> None:
    arena = arena_of()
    let_go(arena, carried_out(arena, cut(arena, 4)))
    block, reservation = cut(arena, 3)
    assert (block.offset, reservation) == (0, None)
    assert arena.reserved_bytes == 4 * P
    assert arena.used_bytes == 3 * P


def test_only_the_pages_that_are_missing_are_fetched() -> None:
    arena = arena_of()
    let_go(arena, carried_out(arena, cut(arena, 2)))
    block, reservation = cut(arena, 5)
    assert reservation == Reservation(block, (), (Span(INBOX_ID, 2 * P, 5 * P),))


def test_unused_pages_of_another_segment_are_released_to_stay_within_the_limit() -> None:
    arena = arena_of(limit_pages=10, inbox_pages=10)
    let_go(arena, carried_out(arena, cut(arena, 8)))
    block, reservation = cut(arena, 5, OUTBOX_ID)
    assert reservation == Reservation(block, (Span(INBOX_ID, 0, 3 * P),), (Span(OUTBOX_ID, P, 6 * P),))
    assert arena.reserved_bytes == 10 * P


def test_the_largest_spare_range_is_released_first() -> None:
    arena = arena_of(limit_pages=10, inbox_pages=10)
    small, wall, large = (carried_out(arena, cut(arena, n)) for n in (2, 1, 6))
    let_go(arena, small)
    let_go(arena, large)
    _, reservation = cut(arena, 8, OUTBOX_ID)
    assert reservation is not None
    assert reservation.to_release == (Span(INBOX_ID, 3 * P, 9 * P), Span(INBOX_ID, 0, P))
    assert wall.nbytes == P


def test_no_page_is_released_while_there_is_room() -> None:
    arena = arena_of(limit_pages=16)
    let_go(arena, carried_out(arena, cut(arena, 8)))
    _, reservation = cut(arena, 8, OUTBOX_ID)
    assert reservation is not None
    assert reservation.to_release == ()


def test_a_block_that_would_exceed_the_limit_is_not_allocated_and_changes_nothing() -> None:
    arena = arena_of(limit_pages=10, inbox_pages=10)
    carried_out(arena, cut(arena, 6))
    before = (arena.reserved_bytes, arena.used_bytes, dict(arena.leases))
    assert arena.allocate(OUTBOX_ID, 5 * P, Holder.CALLER) is None
    assert (arena.reserved_bytes, arena.used_bytes, dict(arena.leases)) == before
    block, reservation = cut(arena, 4, OUTBOX_ID)
    assert block.offset == P
    assert reservation is not None


def test_a_block_of_a_full_segment_is_not_given_although_the_budget_has_room() -> None:
    arena = arena_of(limit_pages=16, inbox_pages=4)
    cut(arena, 4)
    assert arena.allocate(INBOX_ID, P, Holder.CALLER) is None


def test_a_reserved_block_is_cut_only_where_all_its_pages_are() -> None:
    arena = arena_of()
    assert arena.try_allocate_reserved(OUTBOX_ID, P, Holder.PREALLOCATED, OUTBOX_ID) is None
    let_go(arena, carried_out(arena, cut(arena, 2, OUTBOX_ID)))
    assert arena.try_allocate_reserved(OUTBOX_ID, 3 * P, Holder.PREALLOCATED, OUTBOX_ID) is None
    block = arena.try_allocate_reserved(OUTBOX_ID, 2 * P, Holder.PREALLOCATED, OUTBOX_ID)
    assert block is not None
    assert block.leases == {Lease(Holder.PREALLOCATED, OUTBOX_ID)}
    assert arena.reserved_bytes == 2 * P


def test_a_shrunk_block_keeps_its_first_pages_and_frees_the_rest() -> None:
    arena = arena_of(inbox_pages=8)
    block = carried_out(arena, cut(arena, 8))
    arena.shrink(block, P + 1)
    assert (block.nbytes, arena.used_bytes, arena.reserved_bytes) == (2 * P, 2 * P, 8 * P)
    neighbour, reservation = cut(arena, 6)
    assert (neighbour.offset, reservation) == (2 * P, None)
    let_go(arena, block)
    let_go(arena, neighbour)
    assert cut(arena, 8)[1] is None


@pytest.mark.parametrize("nbytes", [3 * P, 3 * P - 1, 9 * P])
def test_a_block_never_grows_by_shrinking(nbytes: int) -> None:
    arena = arena_of()
    block = carried_out(arena, cut(arena, 3))
    arena.shrink(block, nbytes)
    assert block.nbytes == 3 * P


def test_a_dropped_segment_releases_the_pages_that_no_block_uses() -> None:
    arena = arena_of()
    first, kept, last = (carried_out(arena, cut(arena, n, OUTBOX_ID)) for n in (2, 3, 4))
    let_go(arena, first)
    let_go(arena, last)
    assert arena.drop_segment(OUTBOX_ID) == (Span(OUTBOX_ID, P, 3 * P), Span(OUTBOX_ID, 6 * P, 10 * P))
    assert arena.get(kept.generation) is kept


def test_a_block_of_a_dropped_segment_counts_until_its_release() -> None:
    arena = arena_of(limit_pages=10, inbox_pages=10)
    kept = carried_out(arena, cut(arena, 4, OUTBOX_ID))
    arena.drop_segment(OUTBOX_ID)
    assert (arena.reserved_bytes, arena.used_bytes) == (4 * P, 4 * P)
    assert arena.allocate(INBOX_ID, 7 * P, Holder.CALLER) is None
    let_go(arena, kept)
    assert arena.get(kept.generation) is None
    assert (arena.reserved_bytes, arena.used_bytes) == (0, 0)
    assert arena.allocate(INBOX_ID, 10 * P, Holder.CALLER) is not None


def test_shrinking_a_block_of_a_dropped_segment_changes_nothing() -> None:
    arena = arena_of()
    kept = carried_out(arena, cut(arena, 4, OUTBOX_ID))
    arena.drop_segment(OUTBOX_ID)
    arena.shrink(kept, 1)
    assert (kept.nbytes, arena.reserved_bytes) == (4 * P, 4 * P)
    let_go(arena, kept)
    assert arena.reserved_bytes == 0


def test_a_dropped_segment_cannot_be_allocated_from() -> None:
    arena = arena_of()
    arena.drop_segment(OUTBOX_ID)
    with pytest.raises(KeyError):
        arena.allocate(OUTBOX_ID, P, Holder.CALLER)


def test_a_refused_reservation_is_undone() -> None:
    arena = arena_of()
    block, reservation = cut(arena, 4)
    assert reservation is not None
    arena.rollback(reservation, 100 * P)
    arena.release(block, Lease(Holder.RESERVATION, block.generation))
    let_go(arena, block)
    assert arena.reserved_bytes == 0
    assert cut(arena, 4)[1] is not None, "the pages must be reserved again"


def test_pages_that_were_released_for_a_refused_reservation_stay_released() -> None:
    arena = arena_of(limit_pages=10, inbox_pages=10)
    let_go(arena, carried_out(arena, cut(arena, 8)))
    block, reservation = cut(arena, 8, OUTBOX_ID)
    assert reservation is not None
    assert reservation.to_release == (Span(INBOX_ID, 0, 6 * P),)
    arena.rollback(reservation, 100 * P)
    arena.release(block, Lease(Holder.RESERVATION, block.generation))
    let_go(arena, block)
    assert arena.reserved_bytes == 2 * P


def test_the_free_pages_of_the_system_bound_the_arena_while_a_block_is_in_use() -> None:
    arena = arena_of()
    held = carried_out(arena, cut(arena, 2))
    block, reservation = cut(arena, 8, OUTBOX_ID)
    assert reservation is not None
    arena.rollback(reservation, 3 * P)
    arena.release(block, Lease(Holder.RESERVATION, block.generation))
    let_go(arena, block)
    assert arena.allocate(OUTBOX_ID, 4 * P, Holder.CALLER) is None
    assert arena.allocate(OUTBOX_ID, 3 * P, Holder.CALLER) is not None
    let_go(arena, held)


def test_the_system_is_asked_again_once_nothing_is_in_use() -> None:
    arena = arena_of()
    block, reservation = cut(arena, 8)
    assert reservation is not None
    arena.rollback(reservation, 0)
    arena.release(block, Lease(Holder.RESERVATION, block.generation))
    let_go(arena, block)
    assert arena.allocate(INBOX_ID, 8 * P, Holder.CALLER) is not None


def test_undo_after_the_segment_was_dropped_leaves_nothing_behind() -> None:
    arena = arena_of()
    block, reservation = cut(arena, 4, OUTBOX_ID)
    assert reservation is not None
    arena.drop_segment(OUTBOX_ID)
    arena.rollback(reservation, 0)
    arena.release(block, Lease(Holder.RESERVATION, block.generation))
    let_go(arena, block)
    assert (arena.reserved_bytes, arena.used_bytes) == (0, 0)


def test_the_largest_block_that_a_segment_could_hold_is_known() -> None:
    assert arena_of(inbox_pages=12).segment_nbytes(INBOX_ID) == 12 * P


@pytest.mark.parametrize("holder", [holder for holder in Holder if holder is not Holder.RESERVATION])
def test_an_error_can_name_every_kind_of_holder(holder: Holder) -> None:
    arena = Arena(1 << 20, 1 << 20)
    assert arena.allocate(INBOX_ID, 4096, holder, 1) is not None
    assert "have 4,096 bytes" in arena.holders()
