"""`Arena` against a naive model: sets of pages, and a list of moves that are carried out strictly in order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, precondition, rule

from offloop.core.memory.arena import INBOX_ID, Arena
from offloop.core.model.blocks import Block, Holder, Lease, Reservation, Span

P = 4096
LIMIT_PAGES, INBOX_PAGES, OUTBOX_PAGES = 12, 8, 13
INBOX_ADDRESSES = 3 * INBOX_PAGES  # addresses of the inbox, for blocks that grow
NOTHING: Any = multiple()  # pyright: ignore[reportUnknownVariableType]
Page = tuple[int, int]  # segment, index


def pages_of(block: Block) -> set[Page]:
    return pages_in(Span(block.segment_id, block.offset, block.offset + block.nbytes))


def addresses_of(block: Block) -> set[Page]:
    return pages_in(Span(block.segment_id, block.offset, block.offset + block.addresses_nbytes))


def pages_in(span: Span) -> set[Page]:
    assert span.start % P == span.end % P == 0
    assert span.start < span.end
    return {(span.segment_id, index) for index in range(span.start // P, span.end // P)}


class ArenaMachine(RuleBasedStateMachine):
    """Allocates, leases, releases, shrinks and drops blocks. The machine also plays the runtime, which moves the pages."""

    segments = Bundle("segments")
    blocks = Bundle("blocks")

    @initialize(target=segments)
    def make(self) -> int:
        self.arena = Arena(LIMIT_PAGES * P, INBOX_PAGES * P, INBOX_ADDRESSES * P)
        self.memory: set[Page] = set()  # the reserved pages
        self.moves: list[Reservation | tuple[int, tuple[Span, ...]]] = []  # planned and not carried out
        self.live: dict[int, Block] = {}
        self.leases: dict[int, set[Lease]] = {}
        self.outboxes: dict[int, int] = {}  # number of pages by segment, dropped segments excluded
        self.orphans: set[int] = set()  # generations in dropped segments
        self.growths: dict[int, int] = {}  # by generation: length before the growth that is in progress
        self.numbers = 0
        return INBOX_ID

    # Actions of the core

    @precondition(lambda self: len(self.outboxes) < 3)
    @rule(target=segments)
    def add_outbox(self) -> int:
        self.numbers += 1
        self.arena.add_segment(self.numbers, OUTBOX_PAGES * P, keep=P)
        self.outboxes[self.numbers] = OUTBOX_PAGES
        return self.numbers

    @rule(
        target=blocks,
        segment=segments,
        npages=st.integers(1, 9),
        odd=st.integers(0, P - 1),
        more=st.sampled_from([0, 0, 1, 5, 20]),
    )
    def allocate(self, segment: int, npages: int, odd: int, more: int) -> Any:
        if segment != INBOX_ID and segment not in self.outboxes:
            return NOTHING
        before = (self.arena.reserved_bytes, self.arena.used_bytes, Counter(self.arena.leases))
        addresses_bytes = (npages + more) * P if more else 0
        found = self.arena.allocate(segment, npages * P - odd, Holder.CALLER, addresses_bytes=addresses_bytes)
        if found is not None:
            assert self.arena.used_bytes <= self.arena.effective_capacity_bytes
            assert found[1] is None or self.arena.reserved_bytes <= self.arena.effective_capacity_bytes
        if found is None:
            assert (self.arena.reserved_bytes, self.arena.used_bytes, Counter(self.arena.leases)) == before
            return NOTHING
        block, reservation = found
        self.enter(block, Lease(Holder.CALLER, block.generation))
        assert block.nbytes == npages * P
        if reservation is not None:
            self.leases[block.generation].add(Lease(Holder.RESERVATION, block.generation))
            self.moves.append(reservation)
        return block

    @rule(block=blocks, npages=st.integers(1, 5))
    def extend(self, block: Block, npages: int) -> None:
        if not self.is_settled(block) or block.generation in self.orphans:
            return
        before, used = block.nbytes, self.arena.used_bytes
        nbytes = min(before + npages * P, block.addresses_nbytes)
        reservations = self.arena.extend(block, nbytes)
        if reservations is None:
            assert (block.nbytes, self.arena.used_bytes) == (before, used)
            return
        assert block.nbytes == nbytes
        for reservation in reservations:
            self.growths[block.generation] = before
            self.leases[block.generation].add(Lease(Holder.RESERVATION, block.generation))
            self.moves.append(reservation)

    @rule(target=blocks, segment=segments, npages=st.integers(1, 4))
    def allocate_reserved(self, segment: int, npages: int) -> Any:
        if segment != INBOX_ID and segment not in self.outboxes:
            return NOTHING
        block = self.arena.try_allocate_reserved(segment, npages * P, Holder.PREALLOCATED, segment)
        if block is None:
            return NOTHING
        self.enter(block, Lease(Holder.PREALLOCATED, segment))
        return block

    @rule(block=blocks)
    def acquire(self, block: Block) -> None:
        if self.is_settled(block):
            self.numbers += 1
            lease = Lease(Holder.TASK, self.numbers)
            self.arena.acquire(block, lease)
            self.leases[block.generation].add(lease)

    @rule(block=blocks, which=st.integers(0, 5))
    def release(self, block: Block, which: int) -> None:
        held = sorted(
            (lease for lease in self.leases.get(block.generation, ()) if lease.holder is not Holder.RESERVATION),
            key=lambda lease: (lease.holder.value, lease.owner),
        )
        if held:
            self.release_lease(block, held[which % len(held)])

    @rule(block=blocks, npages=st.integers(0, 6), odd=st.integers(0, P - 1))
    def shrink(self, block: Block, npages: int, odd: int) -> None:
        if self.is_settled(block):
            before = block.nbytes
            self.arena.shrink(block, max(npages * P - odd, 0))
            if block.generation in self.orphans:
                assert block.nbytes == before
            else:
                assert block.nbytes == min(before, max(npages, 1) * P)

    @rule(segment=consumes(segments))
    def drop(self, segment: int) -> Any:
        if segment not in self.outboxes:
            return
        spans = self.arena.drop_segment(segment)
        del self.outboxes[segment]
        self.orphans |= {block.generation for block in self.live.values() if block.segment_id == segment}
        self.moves.append((segment, spans))

    @rule(npages=st.integers(-3, LIMIT_PAGES + 3))
    def set_capacity(self, npages: int) -> None:
        """Limit the arena, because tasks use the rest of the budget. Pages that are kept for reuse are released."""
        self.arena.effective_capacity_bytes = min(npages, LIMIT_PAGES) * P
        excess = self.arena.reserved_bytes - self.arena.effective_capacity_bytes
        spare = self.arena.reserved_bytes - self.arena.used_bytes
        spans = self.arena.trim()
        released = sum(len(pages_in(span)) for span in spans) * P
        assert released == min(max(excess, 0), spare), "exactly the excess is released, at most the spare pages"
        if spans:
            self.moves.append((-1, spans))

    @rule()
    def reset_system_capacity(self) -> None:
        self.arena.reset_system_capacity()

    # Actions of the runtime

    @precondition(lambda self: self.moves)
    @rule(refused=st.sampled_from([False, False, False, True]), free=st.integers(0, 20))
    def carry_out_next(self, refused: bool, free: int) -> None:
        move = self.moves.pop(0)
        if not isinstance(move, Reservation):
            for span in move[1]:
                self.memory -= pages_in(span)
            return
        for span in move.to_release:
            self.memory -= pages_in(span)
        block = move.block
        if not refused:
            for span in move.to_reserve:
                self.memory |= pages_in(span)
        before = self.growths.pop(block.generation, None)
        if refused and before is not None:
            self.undo_growth(block, before)
            self.arena.rollback(move, free * P)
            return
        for lease in sorted(self.leases[block.generation], key=lambda lease: lease.holder is Holder.RESERVATION):
            if refused or lease.holder is Holder.RESERVATION:
                self.release_lease(block, lease)
        if refused:
            self.arena.rollback(move, free * P)

    def undo_growth(self, block: Block, before: int) -> None:
        if len(self.leases[block.generation]) > 1 and block.generation not in self.orphans:
            self.arena.cut(block, before)
        self.release_lease(block, Lease(Holder.RESERVATION, block.generation))

    # The model

    def enter(self, block: Block, lease: Lease) -> None:
        assert block.generation not in self.live, "a generation is never used twice"
        self.live[block.generation] = block
        self.leases[block.generation] = {lease}

    def release_lease(self, block: Block, lease: Lease) -> None:
        leases = self.leases[block.generation]
        leases.remove(lease)
        self.arena.release(block, lease)
        assert (self.arena.get(block.generation) is None) is (not leases)
        if not leases:
            del self.live[block.generation], self.leases[block.generation]
            if block.generation in self.orphans:
                self.memory -= pages_of(block)

    def is_settled(self, block: Block) -> bool:
        """Whether the block is leased and its pages are reserved."""
        leases = self.leases.get(block.generation)
        return leases is not None and all(lease.holder is not Holder.RESERVATION for lease in leases)

    # Invariants

    @invariant()
    def no_two_blocks_share_a_page(self) -> None:
        counted = Counter(page for block in self.live.values() for page in addresses_of(block))
        assert max(counted.values(), default=1) == 1

    @invariant()
    def every_block_lies_inside_its_segment(self) -> None:
        for block in self.live.values():
            first, last = (0, INBOX_ADDRESSES) if block.segment_id == INBOX_ID else (1, OUTBOX_PAGES)
            assert first * P <= block.offset <= block.offset + block.addresses_nbytes <= last * P
            assert block.nbytes <= block.addresses_nbytes

    @invariant()
    def free_and_used_is_the_whole(self) -> None:
        for segment_id, npages in {INBOX_ID: INBOX_ADDRESSES, **self.outboxes}.items():
            blocks = [block for block in self.live.values() if block.segment_id == segment_id]
            segment = self.arena._segments[segment_id]
            used = sum(block.addresses_nbytes for block in blocks)
            assert segment._free.total + used == (npages - (segment_id != INBOX_ID)) * P
            assert segment.used_nbytes == sum(block.nbytes for block in blocks) <= segment.nbytes
            assert segment._tails.total == sum(block.addresses_nbytes - block.nbytes for block in blocks)

    @invariant()
    def the_sums_agree_with_the_model(self) -> None:
        assert self.arena.used_bytes == sum(block.nbytes for block in self.live.values())
        orphaned = sum(block.nbytes for generation, block in self.live.items() if generation in self.orphans)
        reserved = sum(segment.reserved.total for segment in self.arena._segments.values())
        assert self.arena.reserved_bytes == reserved + orphaned
        busy = [block for block in self.live.values() if any(each.holder is not Holder.PREALLOCATED for each in block.leases)]
        assert self.arena.busy_bytes == sum(block.nbytes for block in busy)
        counted = Counter(lease.holder for leases in self.leases.values() for lease in leases)
        assert {holder: self.arena.leases[holder] for holder in Holder} == {holder: counted[holder] for holder in Holder}
        for generation, block in self.live.items():
            assert self.arena.get(generation) is block
            assert block.leases == self.leases[generation]

    @invariant()
    def the_budget_is_never_exceeded(self) -> None:
        assert self.arena.used_bytes <= self.arena.reserved_bytes <= LIMIT_PAGES * P
        assert len(self.memory) <= LIMIT_PAGES, "there are never more pages than planned"

    @invariant()
    def every_block_that_may_be_touched_has_all_its_pages(self) -> None:
        for block in self.live.values():
            if self.is_settled(block):
                assert pages_of(block) <= self.memory

    @invariant()
    def plan_and_memory_agree_if_no_move_is_in_progress(self) -> None:
        if not self.moves:
            assert len(self.memory) * P == self.arena.reserved_bytes

    def teardown(self) -> None:
        if not hasattr(self, "arena"):
            return
        while self.moves:
            self.carry_out_next(refused=False, free=0)
        for block in list(self.live.values()):
            for lease in list(self.leases[block.generation]):
                self.release_lease(block, lease)
        assert self.arena.used_bytes == 0
        assert not any(self.arena.leases.values())
        self.arena.reset_system_capacity()
        self.arena.effective_capacity_bytes = self.arena.capacity_bytes
        for segment_id, npages in {INBOX_ID: INBOX_PAGES, **self.outboxes}.items():
            usable = min(npages - (segment_id != INBOX_ID), LIMIT_PAGES)
            found = self.arena.allocate(segment_id, usable * P, Holder.CALLER)
            assert found is not None, "all blocks were released, so the whole segment can be allocated"
            self.enter(found[0], Lease(Holder.CALLER, found[0].generation))
            if found[1] is not None:
                self.leases[found[0].generation].add(Lease(Holder.RESERVATION, found[0].generation))
                self.moves.append(found[1])
                self.carry_out_next(refused=False, free=0)
            self.every_block_that_may_be_touched_has_all_its_pages()
            self.release_lease(found[0], Lease(Holder.CALLER, found[0].generation))


TestArena = pytest.mark.timeout(120)(ArenaMachine.TestCase)
TestArena.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
