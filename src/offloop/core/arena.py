"""All shared memory of a pool as numbers: segments, the blocks cut from them, and who holds each block until when.

A block lives as long as somebody has a lease on it. Nobody frees a block; the last lease that goes frees it. A worker's
lease goes only with its answer or with its confirmed death, so no block is reused while somebody might still write to
it.

The budget counts pages, not blocks: pages stay when a block goes, and are taken from wherever they lie unused when another
segment needs them. The arena plans such moves; the host carries them out strictly in the order planned, which is what keeps
plan and memory the same.
"""

from __future__ import annotations

from collections import Counter

from ..errors import MemoryLimitExceeded
from .allocator import SegmentAllocator, pages
from .blocks import Block, Holder, Lease, Reservation, Span

__all__ = ["INBOX_ID", "Arena"]

INBOX_ID = 0  # outboxes are numbered from 1, one number per incarnation of a worker


class Arena:
    """The tables. Every method either succeeds whole or changes nothing."""

    def __init__(self, limit_bytes: int, inbox_nbytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.ceiling_bytes = limit_bytes  # less than the limit while the rest of the budget is somebody else's
        self.used_bytes = 0  # pages that belong to a block
        self.reserved_bytes = 0  # pages that the pool has now, in use or kept for reuse
        self.leases: Counter[Holder] = Counter()  # how many, for statistics
        self._segments: dict[int, SegmentAllocator] = {INBOX_ID: SegmentAllocator(inbox_nbytes)}
        self._blocks: dict[int, Block] = {}  # by generation
        self._generation = 0
        self._system_limit_bytes = limit_bytes  # less than the limit once the system refused pages
        self._busy_nbytes = 0

    @property
    def busy_bytes(self) -> int:
        """Pages of blocks that somebody will give back one day; a standing grant stays as long as its worker."""
        return self._busy_nbytes

    @property
    def unreserved_bytes(self) -> int:
        """Pages that could be fetched without giving any back; negative: some must be given back."""
        return min(self.limit_bytes, self._system_limit_bytes, self.ceiling_bytes) - self.reserved_bytes

    def shortage(self, nbytes: int) -> MemoryLimitExceeded:
        """The error for somebody who cannot get so many bytes beside what others hold."""
        limit = min(self.limit_bytes, self._system_limit_bytes, self.ceiling_bytes)
        bound = "what /dev/shm has" if limit == self._system_limit_bytes < self.limit_bytes else "memory_limit"
        free = max(limit - self.used_bytes, 0)
        return MemoryLimitExceeded(nbytes, free, limited_by=f"what is free of it, within {bound},")

    def add_segment(self, segment_id: int, nbytes: int, *, keep: int) -> None:
        """A worker's outbox came into being; its first `keep` bytes are not for blocks."""
        self._segments[segment_id] = SegmentAllocator(nbytes, keep=keep)

    def drop_segment(self, segment_id: int) -> tuple[Span, ...]:
        """Forget an outbox whose worker is dead. Returns the spans whose pages can go; blocks that are still held stay."""
        segment = self._segments.pop(segment_id)
        live = [block for block in self._blocks.values() if block.segment_id == segment_id]
        for block in live:
            segment.reserved.remove(block.offset, block.offset + block.nbytes)
        self.reserved_bytes -= segment.reserved.total
        return tuple(Span(segment_id, start, end) for start, end in segment.reserved)

    def get(self, generation: int) -> Block | None:
        """The block of that generation while anybody holds it."""
        return self._blocks.get(generation)

    def segment_nbytes(self, segment_id: int) -> int:
        """The largest block that this segment could ever hold."""
        return self._segments[segment_id].nbytes

    def allocate(
        self, segment_id: int, nbytes: int, holder: Holder, owner: int | None = None, *, leave_bytes: int = 0
    ) -> tuple[Block, Reservation | None] | None:
        """Cut a block for `nbytes`, held by that holder (its owner is the block's own generation unless told otherwise).

        Args:
            leave_bytes: so much is to be left below the ceiling; less than nothing for what is accounted for elsewhere.

        Returns:
            The block, and the reservation that must be carried out before it is touched, if one must; the block is then also
            held by the reservation. None if there is no room now.
        """
        nbytes = pages(nbytes)
        if self.used_bytes + nbytes > self.ceiling_bytes - leave_bytes:
            return None
        segment = self._segments[segment_id]
        offset = segment.allocate(nbytes)
        if offset is None:
            return None
        if segment.reserved.covered(offset, offset + nbytes) == nbytes:
            return self._enter(segment_id, offset, nbytes, holder, owner), None
        gaps = segment.reserved.gaps(offset, offset + nbytes)
        give_back = self._make_room(sum(end - start for start, end in gaps), leave_bytes)
        if give_back is None:
            segment.free(offset, nbytes)
            return None
        block = self._enter(segment_id, offset, nbytes, holder, owner)
        return block, self._reserve(segment, block, give_back, gaps)

    def maybe_allocate_reserved(self, segment_id: int, nbytes: int, holder: Holder, owner: int | None = None) -> Block | None:
        """As `allocate`, but only where the pages are there already."""
        nbytes = pages(nbytes)
        if self.used_bytes + nbytes > self.ceiling_bytes:
            return None
        segment = self._segments[segment_id]
        offset = segment.allocate(nbytes)
        if offset is None:
            return None
        if segment.reserved.covered(offset, offset + nbytes) < nbytes:
            segment.free(offset, nbytes)
            return None
        return self._enter(segment_id, offset, nbytes, holder, owner)

    def shrink(self, block: Block, nbytes: int) -> None:
        """Keep only the pages of a block's first `nbytes`; the rest is free again."""
        kept = pages(nbytes)
        segment = self._segments.get(block.segment_id)
        if segment is not None and kept < block.nbytes:
            segment.free(block.offset + kept, block.nbytes - kept)
            if block.busy_leases:
                self._busy_nbytes -= block.nbytes - kept
            self.used_bytes -= block.nbytes - kept
            block.nbytes = kept

    def take(self, block: Block, lease: Lease) -> None:
        """Hold a block, too."""
        if lease in block.leases:
            raise ValueError(f"{lease} is held on block {block.generation} already")
        if lease.holder is not Holder.STANDING:
            if not block.busy_leases:
                self._busy_nbytes += block.nbytes
            block.busy_leases += 1
        block.leases.add(lease)
        self.leases[lease.holder] += 1

    def release(self, block: Block, lease: Lease) -> None:
        """Let go of a block; the last who does frees it."""
        block.leases.remove(lease)
        self.leases[lease.holder] -= 1
        if lease.holder is not Holder.STANDING:
            block.busy_leases -= 1
            if not block.busy_leases:
                self._busy_nbytes -= block.nbytes
        if block.leases:
            return
        del self._blocks[block.generation]
        self.used_bytes -= block.nbytes
        segment = self._segments.get(block.segment_id)
        if segment is None:
            self.reserved_bytes -= block.nbytes  # its worker is dead: nobody keeps them for reuse
        else:
            segment.free(block.offset, block.nbytes)
        if self._system_limit_bytes < self.limit_bytes and not self.busy_bytes:
            self.ask_system_again()

    def undo(self, reservation: Reservation, free_bytes: int) -> None:
        """The system refused the pages: they are not there, and what was given back stays given back.

        What it has left bounds the arena from now on, until no block is in use any more, or `ask_system_again`.
        """
        for span in reservation.fetch:
            segment = self._segments.get(span.segment_id)
            if segment is not None:
                self._lose(segment, span)
        self._system_limit_bytes = self.reserved_bytes + free_bytes

    def ask_system_again(self) -> None:
        """Forget that the system once refused pages: it may have some by now."""
        self._system_limit_bytes = self.limit_bytes

    def _enter(self, segment_id: int, offset: int, nbytes: int, holder: Holder, owner: int | None) -> Block:
        self._generation += 1
        block = Block(self._generation, segment_id, offset, nbytes, set())
        self._blocks[block.generation] = block
        self.used_bytes += nbytes
        self.take(block, Lease(holder, block.generation if owner is None else owner))
        return block

    def _reserve(
        self, segment: SegmentAllocator, block: Block, give_back: tuple[Span, ...], gaps: list[tuple[int, int]]
    ) -> Reservation:
        for span in give_back:
            self._lose(self._segments[span.segment_id], span)
        for start, end in gaps:
            segment.reserved.add(start, end)
            self.reserved_bytes += end - start
        self.take(block, Lease(Holder.RESERVATION, block.generation))
        return Reservation(block, give_back, tuple(Span(block.segment_id, start, end) for start, end in gaps))

    def _make_room(self, nbytes: int, leave_bytes: int) -> tuple[Span, ...] | None:
        """What to give back so that `nbytes` of new pages stay within the limit; None if that cannot be."""
        bound = min(self.limit_bytes, self._system_limit_bytes, self.ceiling_bytes - leave_bytes)
        return self._spare_spans(self.reserved_bytes + nbytes - bound)

    def trim(self) -> tuple[Span, ...]:
        """What to give back of the pages that are kept for reuse, now that the ceiling is lower than what there is."""
        excess = self.reserved_bytes - self.ceiling_bytes
        spans = self._spare_spans(excess, at_most=True) or ()
        for span in spans:
            self._lose(self._segments[span.segment_id], span)
        return spans

    def _lose(self, segment: SegmentAllocator, span: Span) -> None:
        """These pages are given back."""
        before = segment.reserved.total
        segment.reserved.remove(span.start, span.end)
        self.reserved_bytes -= before - segment.reserved.total

    def _spare_spans(self, excess: int, *, at_most: bool = False) -> tuple[Span, ...] | None:
        """So many bytes of pages that no block uses; None, or as many as there are, if there are not so many."""
        spans: list[Span] = []
        for segment_id, segment in self._segments.items():
            for start, end in segment.spare_pages():
                if excess <= 0:
                    return tuple(spans)
                end = min(end, start + pages(excess))  # noqa: PLW2901 (only as much as is missing)
                spans.append(Span(segment_id, start, end))
                excess -= end - start
        return tuple(spans) if excess <= 0 or at_most else None
