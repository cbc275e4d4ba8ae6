"""Where in one segment a block goes. Numbers only: no memory is touched here.

A segment is sparse: it has all its addresses from the start, and may have many times more of them than its blocks may use, but
pages only where some were reserved. Reserved pages are kept
and used again, because a first touch costs six times a second one; so the best place for a block is the one that needs the
fewest new pages, and among those the tightest.
"""

from __future__ import annotations

from itertools import chain

from .ranges import RangeSet

__all__ = ["PAGE_NBYTES", "SegmentAllocator", "pages"]

PAGE_NBYTES = 4096


def pages(nbytes: int) -> int:
    """The number of bytes in the whole pages that hold so many bytes; at least one page."""
    return max(-(-nbytes // PAGE_NBYTES), 1) * PAGE_NBYTES


class SegmentAllocator:
    """The free and the reserved ranges of one segment. All sizes and offsets are whole pages.

    A block that may grow has more addresses than pages: the rest of its addresses, its tail, is neither free nor used.
    """

    __slots__ = ("_free", "_tails", "addresses_nbytes", "nbytes", "reserved", "used_nbytes")

    def __init__(self, addresses_nbytes: int, *, keep: int = 0, limit_bytes: int | None = None) -> None:
        """A segment of so many addresses, without its first `keep`, of which blocks have `limit_bytes` at most."""
        self.addresses_nbytes = addresses_nbytes
        self.nbytes = addresses_nbytes if limit_bytes is None else limit_bytes  # that blocks may have at most, all together
        self.used_nbytes = 0  # that they have
        self._free = RangeSet()
        self._free.add(keep, addresses_nbytes)
        self._tails = RangeSet()
        self.reserved = RangeSet()  # the ranges that have pages

    def allocate(self, nbytes: int, addresses_nbytes: int = 0) -> int | None:
        """The offset of a free range of so many addresses, whose first `nbytes` are now used; None if there is no room."""
        if self.used_nbytes + nbytes > self.nbytes:
            return None
        addresses_nbytes = max(addresses_nbytes, nbytes)
        holes = [
            (nbytes - self.reserved.covered(start, start + nbytes), end - start, start)  # new pages, length, place
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
        """Use more of a block's own addresses; False, and nothing has changed, if the segment has no room."""
        if self.used_nbytes + to_nbytes - nbytes > self.nbytes:
            return False
        self._tails.remove(offset + nbytes, offset + to_nbytes)
        self.used_nbytes += to_nbytes - nbytes
        return True

    def cut(self, offset: int, nbytes: int, to_nbytes: int) -> None:
        """Undo `extend`: the addresses stay the block's."""
        self._tails.add(offset + to_nbytes, offset + nbytes)
        self.used_nbytes -= nbytes - to_nbytes

    def free(self, offset: int, nbytes: int, addresses_nbytes: int = 0) -> None:
        """Give a range back, of which the first `nbytes` were used. Its pages stay reserved."""
        end = offset + max(addresses_nbytes, nbytes)
        if self._free.covered(offset, end):
            raise ValueError(f"[{offset}, {end}) is free already, at least in part")
        self._free.add(offset, end)
        if end > offset + nbytes:
            self._tails.remove(offset + nbytes, end)
        self.used_nbytes -= nbytes

    def spare_pages(self) -> list[tuple[int, int]]:
        """The ranges that have pages which no block uses, largest first."""
        unused = chain(self._free, self._tails) if self._tails.total else self._free
        spare = [part for start, end in unused for part in self.reserved.overlaps(start, end)]
        return sorted(spare, key=lambda part: part[0] - part[1])
