"""Segment allocator: the offset of each block in one segment. It works on numbers and touches no memory.

A segment is sparse. It has all its addresses from the start, many times more than its blocks may use, and pages only where they
were reserved. Reserved pages are kept and reused, because the first touch of a page costs six times as much as a second one. So
the best place for a block is the free range that needs the fewest new pages, and of these the smallest one.
"""

from __future__ import annotations

from itertools import chain

from .ranges import RangeSet

__all__ = ["PAGE_NBYTES", "SegmentAllocator", "pages"]

PAGE_NBYTES = 4096


def pages(nbytes: int) -> int:
    """`nbytes` rounded up to whole pages; at least one page."""
    return max(-(-nbytes // PAGE_NBYTES), 1) * PAGE_NBYTES


class SegmentAllocator:
    """The free and the reserved ranges of one segment. All sizes and offsets are whole pages, in bytes.

    A block that may grow has more addresses than pages. The rest of its addresses, its tail, is neither free nor used.
    """

    __slots__ = ("_free", "_tails", "addresses_nbytes", "nbytes", "reserved", "used_nbytes")

    def __init__(self, addresses_nbytes: int, *, keep: int = 0, limit_bytes: int | None = None) -> None:
        """Create the ranges of an empty segment.

        Args:
            addresses_nbytes: size of the segment.
            keep: bytes at its start that no block may use.
            limit_bytes: bytes that all blocks together may use; None for all addresses.
        """
        self.addresses_nbytes = addresses_nbytes
        self.nbytes = addresses_nbytes if limit_bytes is None else limit_bytes  # bytes that all blocks together may use
        self.used_nbytes = 0  # bytes that all blocks use
        self._free = RangeSet()
        self._free.add(keep, addresses_nbytes)
        self._tails = RangeSet()
        self.reserved = RangeSet()  # the ranges that have pages

    def allocate(self, nbytes: int, addresses_nbytes: int = 0) -> int | None:
        """Use the first `nbytes` of a free range of `addresses_nbytes`. Returns its offset; None if there is no room."""
        if self.used_nbytes + nbytes > self.nbytes:
            return None
        addresses_nbytes = max(addresses_nbytes, nbytes)
        holes = [
            (nbytes - self.reserved.covered(start, start + nbytes), end - start, start)  # new pages, length, offset
            for start, end in self._free
            if end - start >= addresses_nbytes
        ]
        if not holes:
            return None
        offset = min(holes)[2]
        self._free.remove(offset, offset + addresses_nbytes)
        if addresses_nbytes > nbytes:
            self._tails.add(offset + nbytes, offset + addresses_nbytes)
        self.used_nbytes += nbytes
        return offset

    def extend(self, offset: int, nbytes: int, to_nbytes: int) -> bool:
        """Use more of a block's own addresses. Returns False, and changes nothing, if the segment has no room."""
        if self.used_nbytes + to_nbytes - nbytes > self.nbytes:
            return False
        self._tails.remove(offset + nbytes, offset + to_nbytes)
        self.used_nbytes += to_nbytes - nbytes
        return True

    def cut(self, offset: int, nbytes: int, to_nbytes: int) -> None:
        """Undo `extend`. The block keeps the addresses."""
        self._tails.add(offset + to_nbytes, offset + nbytes)
        self.used_nbytes -= nbytes - to_nbytes

    def free(self, offset: int, nbytes: int, addresses_nbytes: int = 0) -> None:
        """Free a range whose first `nbytes` were used. Its pages stay reserved."""
        end = offset + max(addresses_nbytes, nbytes)
        if self._free.covered(offset, end):
            raise ValueError(f"[{offset}, {end}) is free already, at least in part")
        self._free.add(offset, end)
        if end > offset + nbytes:
            self._tails.remove(offset + nbytes, end)
        self.used_nbytes -= nbytes

    def spare_pages(self) -> list[tuple[int, int]]:
        """The reserved ranges that no block uses, largest first."""
        unused = chain(self._free, self._tails) if self._tails.total else self._free
        spare = [overlap for start, end in unused for overlap in self.reserved.overlaps(start, end)]
        return sorted(spare, key=lambda overlap: overlap[0] - overlap[1])
