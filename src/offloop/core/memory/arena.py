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

from ...errors import MemoryLimitExceeded
from ..model.blocks import Block, Holder, Lease, Reservation, Span
from .allocator import SegmentAllocator, pages

__all__ = ["INBOX_ID", "Arena"]

_KINDS = {
    Holder.CALLER: "",  # told apart by the segment
    Holder.TASK: "sources of tasks",
    Holder.READER: "sources that are looked at",
    Holder.WORKER: "blocks of running tasks",
    Holder.ABANDONED: "blocks of workers that cannot be killed",
    Holder.STANDING: "blocks of idle workers",
    Holder.RESERVATION: "blocks without pages yet",
}
_REPORTED = list(_KINDS)  # the first of a block's holders counts

INBOX_ID = 0  # outboxes are numbered from 1, one number per incarnation of a worker


class Arena:
    """The tables. Every method either succeeds whole or changes nothing."""

    def __init__(
        self, limit_bytes: int, inbox_nbytes: int, inbox_addresses_nbytes: int | None = None, bounded_by: str = "memory_limit"
    ) -> None:
        self.capacity_bytes = limit_bytes
        self._bounded_by = bounded_by  # what the limit comes from
        self.effective_capacity_bytes = limit_bytes  # less than the limit while the rest of the budget is somebody else's
        self.used_bytes = 0  # pages that belong to a block
        self.reserved_bytes = 0  # pages that the pool has now, in use or kept for reuse
        self.leases: Counter[Holder] = Counter()  # how many, for statistics
        inbox = SegmentAllocator(inbox_addresses_nbytes or inbox_nbytes, limit_bytes=inbox_nbytes)
        self._segments: dict[int, SegmentAllocator] = {INBOX_ID: inbox}
        self._blocks: dict[int, Block] = {}  # by generation
        self._generation = 0
        self._system_capacity_bytes = limit_bytes  # less than the limit once the system refused pages
        self._busy_bytes = 0

    @property
    def busy_bytes(self) -> int:
        """Pages of blocks that somebody will give back one day; a standing grant stays as long as its worker."""
        return self._busy_bytes

    @property
    def unreserved_bytes(self) -> int:
        """Pages that could be fetched without giving any back; negative: some must be given back."""
        return min(self.capacity_bytes, self._system_capacity_bytes, self.effective_capacity_bytes) - self.reserved_bytes

    @property
    def system_is_short(self) -> bool:
        """Whether the system has refused pages and was not asked again since."""
        return self._system_capacity_bytes < self.capacity_bytes

    def shortage(self, nbytes: int, why: str = "") -> MemoryLimitExceeded:
        """The error for a request that cannot get so many bytes beside what others hold."""
        limit = min(self.capacity_bytes, self._system_capacity_bytes, self.effective_capacity_bytes)
        short = limit == self._system_capacity_bytes < self.capacity_bytes
        bound = "what /dev/shm has" if short else self._bounded_by if limit == self.capacity_bytes else "memory_limit"
        free = max(limit - self.used_bytes, 0)
        limited_by = f"what is free of it, within {bound},"
        return MemoryLimitExceeded(nbytes, free, limited_by=limited_by, advice=why + _advice(bound))

    def exceeds_inbox(self, nbytes: int) -> MemoryLimitExceeded:
        """The error for a source that could never be held."""
        bound, limit = self._bounded_by, self.segment_nbytes(INBOX_ID)
        return MemoryLimitExceeded(nbytes, limit, limited_by=f"the inbox's share of {bound}", advice=_advice(bound))

    def exceeds_capacity(self, nbytes: int) -> MemoryLimitExceeded:
        """The error for a result that could never be held."""
        bound = self._bounded_by
        limited_by = "the pool's memory_limit" if bound == "memory_limit" else bound
        return MemoryLimitExceeded(nbytes, self.capacity_bytes, limited_by=limited_by, advice=_advice(bound))

    def holders(self) -> str:
        """Who holds memory, for an error's text."""
        kinds: Counter[str] = Counter()
        nbytes: Counter[str] = Counter()
        for block in self._blocks.values():
            holder = min((lease.holder for lease in block.leases), key=_REPORTED.index)
            kind = _KINDS[holder]
            if holder is Holder.CALLER:
                kind = "sources or buffers of callers" if block.segment_id == INBOX_ID else "results kept by callers"
            kinds[kind] += 1
            nbytes[kind] += block.nbytes
        said = [f"{count:,} {kind} have {nbytes[kind]:,} bytes" for kind, count in kinds.items()]
        return ", ".join(said) or "nothing is held"

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
        self,
        segment_id: int,
        nbytes: int,
        holder: Holder,
        owner: int | None = None,
        *,
        leave_bytes: int = 0,
        addresses_bytes: int = 0,
    ) -> tuple[Block, Reservation | None] | None:
        """Cut a block for `nbytes`, held by that holder (its owner is the block's own generation unless told otherwise).

        Args:
            leave_bytes: so much is to be left below the ceiling; less than nothing for what is accounted for elsewhere.
            addresses_bytes: what the block may grow to with `extend`.

        Returns:
            The block, and the reservation that must be carried out before it is touched, if one must; the block is then also
            held by the reservation. None if there is no room now.
        """
        nbytes = pages(nbytes)
        if self.used_bytes + nbytes > self.effective_capacity_bytes - leave_bytes:
            return None
        segment = self._segments[segment_id]
        addresses_nbytes = pages(addresses_bytes) if addresses_bytes > nbytes else nbytes
        offset = segment.allocate(nbytes, addresses_nbytes)
        if offset is None:
            return None
        if segment.reserved.covered(offset, offset + nbytes) == nbytes:
            return self._add_block(segment_id, offset, nbytes, holder, owner, addresses_nbytes), None
        gaps = segment.reserved.gaps(offset, offset + nbytes)
        give_back = self._find_spans_to_release(sum(end - start for start, end in gaps), leave_bytes)
        if give_back is None:
            segment.free(offset, nbytes, addresses_nbytes)
            return None
        block = self._add_block(segment_id, offset, nbytes, holder, owner, addresses_nbytes)
        return block, self._reserve(segment, block, give_back, gaps)

    def extend(self, block: Block, nbytes: int, *, leave_bytes: int = 0) -> list[Reservation] | None:
        """Let a block have more of its own addresses.

        Returns:
            The reservations that must be carried out before the new part is touched, at most one. None if there is no room now.
        """
        nbytes, before = pages(nbytes), block.nbytes
        if self.used_bytes + nbytes - before > self.effective_capacity_bytes - leave_bytes:
            return None
        segment, start = self._segments[block.segment_id], block.offset
        if not segment.extend(start, before, nbytes):
            return None
        gaps = segment.reserved.gaps(start + before, start + nbytes)
        give_back = self._find_spans_to_release(sum(high - low for low, high in gaps), leave_bytes) if gaps else ()
        if give_back is None:
            segment.cut(start, nbytes, before)
            return None
        self._resize(block, nbytes)
        return [self._reserve(segment, block, give_back, gaps)] if gaps else []

    def cut(self, block: Block, nbytes: int) -> None:
        """Undo `extend`, whose pages were refused: the block is as it was, and may be extended again."""
        self._segments[block.segment_id].cut(block.offset, block.nbytes, nbytes)
        self._resize(block, nbytes)

    def try_allocate_reserved(self, segment_id: int, nbytes: int, holder: Holder, owner: int | None = None) -> Block | None:
        """As `allocate`, but only where the pages are there already."""
        nbytes = pages(nbytes)
        if self.used_bytes + nbytes > self.effective_capacity_bytes:
            return None
        segment = self._segments[segment_id]
        offset = segment.allocate(nbytes)
        if offset is None:
            return None
        if segment.reserved.covered(offset, offset + nbytes) < nbytes:
            segment.free(offset, nbytes)
            return None
        return self._add_block(segment_id, offset, nbytes, holder, owner, nbytes)

    def shrink(self, block: Block, nbytes: int) -> None:
        """Keep only the pages of a block's first `nbytes`, and no other addresses; the rest is free again."""
        kept = min(pages(nbytes), block.nbytes)
        segment = self._segments.get(block.segment_id)
        if segment is not None and kept < block.addresses_nbytes:
            segment.free(block.offset + kept, block.nbytes - kept, block.addresses_nbytes - kept)
            block.addresses_nbytes = kept
            self._resize(block, kept)

    def _resize(self, block: Block, nbytes: int) -> None:
        if block.busy_leases:
            self._busy_bytes += nbytes - block.nbytes
        self.used_bytes += nbytes - block.nbytes
        block.nbytes = nbytes

    def acquire(self, block: Block, lease: Lease) -> None:
        """Hold a block, too."""
        if lease in block.leases:
            raise ValueError(f"{lease} is held on block {block.generation} already")
        if lease.holder is not Holder.STANDING:
            if not block.busy_leases:
                self._busy_bytes += block.nbytes
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
                self._busy_bytes -= block.nbytes
        if block.leases:
            return
        del self._blocks[block.generation]
        self.used_bytes -= block.nbytes
        segment = self._segments.get(block.segment_id)
        if segment is None:
            self.reserved_bytes -= block.nbytes  # its worker is dead: nobody keeps them for reuse
        else:
            segment.free(block.offset, block.nbytes, block.addresses_nbytes)
        if self._system_capacity_bytes < self.capacity_bytes and not self.busy_bytes:
            self.reset_system_capacity()

    def rollback(self, reservation: Reservation, free_bytes: int) -> None:
        """The system refused the pages: they are not there, and what was given back stays given back.

        What it has left bounds the arena from now on, until no block is in use any more, or `ask_system_again`.
        """
        for span in reservation.to_reserve:
            segment = self._segments.get(span.segment_id)
            if segment is not None:
                self._mark_unreserved(segment, span)
        self._system_capacity_bytes = self.reserved_bytes + free_bytes

    def reset_system_capacity(self) -> None:
        """Forget that the system once refused pages: it may have some by now."""
        self._system_capacity_bytes = self.capacity_bytes

    def _add_block(
        self, segment_id: int, offset: int, nbytes: int, holder: Holder, owner: int | None, addresses_nbytes: int
    ) -> Block:
        self._generation += 1
        block = Block(self._generation, segment_id, offset, nbytes, set(), addresses_nbytes)
        self._blocks[block.generation] = block
        self.used_bytes += nbytes
        self.acquire(block, Lease(holder, block.generation if owner is None else owner))
        return block

    def _reserve(
        self, segment: SegmentAllocator, block: Block, give_back: tuple[Span, ...], gaps: list[tuple[int, int]]
    ) -> Reservation:
        for span in give_back:
            self._mark_unreserved(self._segments[span.segment_id], span)
        for start, end in gaps:
            segment.reserved.add(start, end)
            self.reserved_bytes += end - start
        self.acquire(block, Lease(Holder.RESERVATION, block.generation))
        return Reservation(block, give_back, tuple(Span(block.segment_id, start, end) for start, end in gaps))

    def _find_spans_to_release(self, nbytes: int, leave_bytes: int) -> tuple[Span, ...] | None:
        """What to give back so that `nbytes` of new pages stay within the limit; None if that cannot be."""
        bound = min(self.capacity_bytes, self._system_capacity_bytes, self.effective_capacity_bytes - leave_bytes)
        return self._find_spare_spans(self.reserved_bytes + nbytes - bound)

    def trim(self) -> tuple[Span, ...]:
        """What to give back of the pages that are kept for reuse, now that the ceiling is lower than what there is."""
        excess = self.reserved_bytes - self.effective_capacity_bytes
        spans = self._find_spare_spans(excess, at_most=True) or ()
        for span in spans:
            self._mark_unreserved(self._segments[span.segment_id], span)
        return spans

    def _mark_unreserved(self, segment: SegmentAllocator, span: Span) -> None:
        """These pages are given back."""
        before = segment.reserved.total
        segment.reserved.remove(span.start, span.end)
        self.reserved_bytes -= before - segment.reserved.total

    def _find_spare_spans(self, excess: int, *, at_most: bool = False) -> tuple[Span, ...] | None:
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


def _advice(bound: str) -> str:
    """What to do about a bound."""
    if "/dev/shm" in bound:  # noqa: S108 (a text)
        return "release results and buffers, or enlarge /dev/shm (in Docker: --shm-size)"
    return "release results and buffers, or raise memory_limit"
