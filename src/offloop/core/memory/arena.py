"""Arena: all shared memory of a pool as numbers. Segments, their blocks, and the leases on each block.

A block exists as long as there is a lease on it. The release of the last lease frees it. A worker's lease is released only with
its answer or its confirmed death, so no block is reused while a worker may still write to it.

The limit counts pages, not blocks. The pages of a freed block stay reserved for reuse, and are released when another segment
needs pages. The arena plans reservations and releases of pages. The runtime carries them out strictly in the planned order,
which keeps plan and memory the same.
"""

from __future__ import annotations

from collections import Counter

from ...errors import MemoryLimitExceeded
from ..model.blocks import Block, Holder, Lease, Reservation, Span
from .allocator import SegmentAllocator, pages

__all__ = ["INBOX_ID", "Arena"]

_KINDS = {
    Holder.CALLER: "",  # depends on the segment
    Holder.TASK: "sources of tasks",
    Holder.STAGER: "sources that are copied",
    Holder.READER: "sources that are hashed",
    Holder.DELIVERY: "sources that are copied for a worker",
    Holder.WORKER: "blocks of running tasks",
    Holder.ABANDONED: "blocks of workers that cannot be killed",
    Holder.PREALLOCATED: "blocks of idle workers",
    Holder.RESERVATION: "blocks without pages yet",
}
_REPORTED = list(_KINDS)  # order of precedence: a block is reported under the first of its holders

INBOX_ID = 0  # outboxes have numbers from 1, a new one for each worker process


class Arena:
    """Segments, blocks and leases. Each method either succeeds or changes nothing."""

    def __init__(
        self, limit_bytes: int, inbox_nbytes: int, inbox_addresses_nbytes: int | None = None, bounded_by: str = "memory_limit"
    ) -> None:
        self.capacity_bytes = limit_bytes
        self._bounded_by = bounded_by  # name of the setting or system limit that the capacity comes from
        self.effective_capacity_bytes = limit_bytes  # the capacity without the memory that the budget gives to running tasks
        self.used_bytes = 0  # pages of blocks
        self.reserved_bytes = 0  # pages that the pool has now, used or kept for reuse
        self.leases: Counter[Holder] = Counter()  # number of leases of each kind
        inbox = SegmentAllocator(inbox_addresses_nbytes or inbox_nbytes, limit_bytes=inbox_nbytes)
        self._segments: dict[int, SegmentAllocator] = {INBOX_ID: inbox}
        self._blocks: dict[int, Block] = {}  # by generation
        self._generation = 0
        self._system_capacity_bytes = limit_bytes  # less than the capacity after the system has refused pages
        self._busy_bytes = 0  # pages of blocks that have a lease other than a preallocation

    @property
    def busy_bytes(self) -> int:
        """Pages of blocks that will be freed some time; a preallocated block stays as long as its worker."""
        return self._busy_bytes

    @property
    def unreserved_bytes(self) -> int:
        """Bytes of pages that could be reserved without a release; negative if pages must be released."""
        return min(self.capacity_bytes, self._system_capacity_bytes, self.effective_capacity_bytes) - self.reserved_bytes

    @property
    def system_is_short(self) -> bool:
        """Whether the system has refused pages since the last `reset_system_capacity`."""
        return self._system_capacity_bytes < self.capacity_bytes

    def shortage(self, nbytes: int, why: str = "") -> MemoryLimitExceeded:
        """The error for a request that cannot get so many bytes beside the blocks that are held."""
        limit = min(self.capacity_bytes, self._system_capacity_bytes, self.effective_capacity_bytes)
        short = limit == self._system_capacity_bytes < self.capacity_bytes
        bound = "what /dev/shm has" if short else self._bounded_by if limit == self.capacity_bytes else "memory_limit"
        free = max(limit - self.used_bytes, 0)
        limited_by = f"what is free of it, within {bound},"
        is_temporary = short or nbytes <= limit or self.busy_bytes > 0
        return MemoryLimitExceeded(nbytes, free, limited_by=limited_by, advice=why + _advice(bound), is_temporary=is_temporary)

    def exceeds_inbox(self, nbytes: int) -> MemoryLimitExceeded:
        """The error for a source that is larger than the inbox."""
        bound, limit = self._bounded_by, self.segment_nbytes(INBOX_ID)
        return MemoryLimitExceeded(nbytes, limit, limited_by=f"the inbox's share of {bound}", advice=_advice(bound))

    def exceeds_capacity(self, nbytes: int) -> MemoryLimitExceeded:
        """The error for a result that is larger than the capacity."""
        bound = self._bounded_by
        limited_by = "the pool's memory_limit" if bound == "memory_limit" else bound
        return MemoryLimitExceeded(nbytes, self.capacity_bytes, limited_by=limited_by, advice=_advice(bound))

    def holders(self) -> str:
        """The kinds of blocks that are held, with numbers, for an error text."""
        kinds: Counter[str] = Counter()
        nbytes: Counter[str] = Counter()
        for block in self._blocks.values():
            holder = min((lease.holder for lease in block.leases), key=_REPORTED.index)
            kind = _KINDS[holder]
            if holder is Holder.CALLER:
                kind = "sources or buffers of callers" if block.segment_id == INBOX_ID else "results kept by callers"
            kinds[kind] += 1
            nbytes[kind] += block.nbytes
        texts = [f"{count:,} {kind} have {nbytes[kind]:,} bytes" for kind, count in kinds.items()]
        return ", ".join(texts) or "no block is held"

    def add_segment(self, segment_id: int, nbytes: int, *, keep: int) -> None:
        """Add the outbox of a new worker; no block may use its first `keep` bytes."""
        self._segments[segment_id] = SegmentAllocator(nbytes, keep=keep)

    def drop_segment(self, segment_id: int) -> tuple[Span, ...]:
        """Remove the outbox of a dead worker. Returns the spans whose pages can be released; held blocks stay."""
        segment = self._segments.pop(segment_id)
        live = [block for block in self._blocks.values() if block.segment_id == segment_id]
        for block in live:
            segment.reserved.remove(block.offset, block.offset + block.nbytes)
        self.reserved_bytes -= segment.reserved.total
        return tuple(Span(segment_id, start, end) for start, end in segment.reserved)

    def get(self, generation: int) -> Block | None:
        """The block of this generation; None if it is not held any more."""
        return self._blocks.get(generation)

    def segment_nbytes(self, segment_id: int) -> int:
        """Size of the largest block that the segment could hold when it is empty."""
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
        """Allocate a block.

        Args:
            segment_id: the segment.
            nbytes: size of the block; rounded up to whole pages.
            holder: the kind of its first lease.
            owner: the owner of this lease; None for the block's own generation.
            leave_bytes: bytes of the effective capacity that must stay free; negative for bytes that are charged elsewhere.
            addresses_bytes: size to which the block may grow with `extend`.

        Returns:
            The block, and the reservation that must be carried out before it is touched, if it needs new pages; the reservation
            then has a lease on the block, too. None if there is no room now.
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
        to_release = self._find_spans_to_release(sum(end - start for start, end in gaps), leave_bytes)
        if to_release is None:
            segment.free(offset, nbytes, addresses_nbytes)
            return None
        block = self._add_block(segment_id, offset, nbytes, holder, owner, addresses_nbytes)
        return block, self._reserve(segment, block, to_release, gaps)

    def extend(self, block: Block, nbytes: int, *, leave_bytes: int = 0) -> list[Reservation] | None:
        """Let a block use more of its own addresses.

        Args:
            block: the block.
            nbytes: its new size; rounded up to whole pages.
            leave_bytes: as in `allocate`.

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
        to_release = self._find_spans_to_release(sum(high - low for low, high in gaps), leave_bytes) if gaps else ()
        if to_release is None:
            segment.cut(start, nbytes, before)
            return None
        self._resize(block, nbytes)
        return [self._reserve(segment, block, to_release, gaps)] if gaps else []

    def cut(self, block: Block, nbytes: int) -> None:
        """Undo `extend` after its pages were refused. The block may be extended again."""
        self._segments[block.segment_id].cut(block.offset, block.nbytes, nbytes)
        self._resize(block, nbytes)

    def try_allocate_reserved(self, segment_id: int, nbytes: int, holder: Holder, owner: int | None = None) -> Block | None:
        """Allocate a block only from pages that are reserved already; None if there is no room in them."""
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
        """Keep only the pages of a block's first `nbytes`, and free its other pages and addresses."""
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
        """Add a lease on a block."""
        if lease in block.leases:
            raise ValueError(f"{lease} is held on block {block.generation} already")
        if lease.holder is not Holder.PREALLOCATED:
            if not block.busy_leases:
                self._busy_bytes += block.nbytes
            block.busy_leases += 1
        block.leases.add(lease)
        self.leases[lease.holder] += 1

    def release(self, block: Block, lease: Lease) -> None:
        """Remove a lease on a block. The last release frees the block."""
        block.leases.remove(lease)
        self.leases[lease.holder] -= 1
        if lease.holder is not Holder.PREALLOCATED:
            block.busy_leases -= 1
            if not block.busy_leases:
                self._busy_bytes -= block.nbytes
        if block.leases:
            return
        del self._blocks[block.generation]
        self.used_bytes -= block.nbytes
        segment = self._segments.get(block.segment_id)
        if segment is None:
            self.reserved_bytes -= block.nbytes  # its worker is dead, so its pages are not kept for reuse
        else:
            segment.free(block.offset, block.nbytes, block.addresses_nbytes)
        if self._system_capacity_bytes < self.capacity_bytes and not self.busy_bytes:
            self.reset_system_capacity()

    def rollback(self, reservation: Reservation, free_bytes: int) -> None:
        """The system refused the pages of a reservation: they are not reserved; its releases stay.

        The free pages of the system bound the arena from now on, until no block is in use, or until `reset_system_capacity`.
        """
        for span in reservation.to_reserve:
            segment = self._segments.get(span.segment_id)
            if segment is not None:
                self._mark_unreserved(segment, span)
        self._system_capacity_bytes = self.reserved_bytes + free_bytes

    def reset_system_capacity(self) -> None:
        """Forget that the system has refused pages, because it may have some now."""
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
        self, segment: SegmentAllocator, block: Block, to_release: tuple[Span, ...], gaps: list[tuple[int, int]]
    ) -> Reservation:
        for span in to_release:
            self._mark_unreserved(self._segments[span.segment_id], span)
        for start, end in gaps:
            segment.reserved.add(start, end)
            self.reserved_bytes += end - start
        self.acquire(block, Lease(Holder.RESERVATION, block.generation))
        return Reservation(block, to_release, tuple(Span(block.segment_id, start, end) for start, end in gaps))

    def _find_spans_to_release(self, nbytes: int, leave_bytes: int) -> tuple[Span, ...] | None:
        """Spans to release so that `nbytes` of new pages stay within the capacity; None if there are not enough spare pages."""
        bound = min(self.capacity_bytes, self._system_capacity_bytes, self.effective_capacity_bytes - leave_bytes)
        return self._find_spare_spans(self.reserved_bytes + nbytes - bound)

    def trim(self) -> tuple[Span, ...]:
        """Release pages that are kept for reuse, down to the effective capacity. Returns their spans."""
        excess = self.reserved_bytes - self.effective_capacity_bytes
        spans = self._find_spare_spans(excess, allow_fewer=True) or ()
        for span in spans:
            self._mark_unreserved(self._segments[span.segment_id], span)
        return spans

    def _mark_unreserved(self, segment: SegmentAllocator, span: Span) -> None:
        """The pages of a span are released."""
        before = segment.reserved.total
        segment.reserved.remove(span.start, span.end)
        self.reserved_bytes -= before - segment.reserved.total

    def _find_spare_spans(self, excess: int, *, allow_fewer: bool = False) -> tuple[Span, ...] | None:
        """Spans with `excess` bytes of pages that no block uses; None if there are not so many.

        With `allow_fewer`, all spans with unused pages if there are not so many.
        """
        spans: list[Span] = []
        for segment_id, segment in self._segments.items():
            for start, end in segment.spare_pages():
                if excess <= 0:
                    return tuple(spans)
                end = min(end, start + pages(excess))  # noqa: PLW2901 (no more than is needed)
                spans.append(Span(segment_id, start, end))
                excess -= end - start
        return tuple(spans) if excess <= 0 or allow_fewer else None


def _advice(bound: str) -> str:
    """The advice for an error about this bound."""
    if "/dev/shm" in bound:  # noqa: S108 (a text)
        return "release results and buffers, or enlarge /dev/shm (in Docker: --shm-size)"
    return "release results and buffers, or raise memory_limit"
