"""Where in one segment a block goes. Numbers only: no memory is touched here.

A segment is sparse: it has all its addresses from the start, but pages only where some were reserved. Reserved pages are kept
and used again, because a first touch costs six times a second one; so the best place for a block is the one that needs the
fewest new pages, and among those the tightest.
"""

from __future__ import annotations

from .ranges import RangeSet

__all__ = ["PAGE_NBYTES", "SegmentAllocator", "pages"]

PAGE_NBYTES = 4096


def pages(nbytes: int) -> int:
    """The number of bytes in the whole pages that hold so many bytes; at least one page."""
    return max(-(-nbytes // PAGE_NBYTES), 1) * PAGE_NBYTES


class SegmentAllocator:
    """The free and the reserved ranges of one segment. All sizes and offsets are whole pages."""

    __slots__ = ("_free", "nbytes", "reserved")

    def __init__(self, nbytes: int, *, keep: int = 0) -> None:
        """A segment of so many bytes, of which the first `keep` are never given out."""
        self.nbytes = nbytes
        self._free = RangeSet()
        self._free.add(keep, nbytes)
        self.reserved = RangeSet()  # the ranges that have pages

    def allocate(self, nbytes: int) -> int | None:
        """The offset of a free range of so many bytes, which is now taken; None if there is no hole as large."""
        holes = [
            (nbytes - self.reserved.covered(start, start + nbytes), end - start, start)  # new pages, length, place
            for start, end in self._free
            if end - start >= nbytes
        ]
        if not holes:
            return None
        offset = min(holes)[2]
        self._free.remove(offset, offset + nbytes)
        return offset

    def free(self, offset: int, nbytes: int) -> None:
        """Give a range back. Its pages stay reserved."""
        if self._free.covered(offset, offset + nbytes):
            raise ValueError(f"[{offset}, {offset + nbytes}) is free already, at least in part")
        self._free.add(offset, offset + nbytes)

    def spare_pages(self) -> list[tuple[int, int]]:
        """The ranges that have pages which no block uses, largest first."""
        spare = [part for start, end in self._free for part in self.reserved.overlaps(start, end)]
        return sorted(spare, key=lambda part: part[0] - part[1])
