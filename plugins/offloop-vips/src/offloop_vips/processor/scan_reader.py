"""Reads a JPEG for libvips, and knows how much of its scan the decoder has left over.

A changed bit makes a decoder take some bytes for others, so that it has all rows after or before the end of the data. libvips
has a message for the first case only. In the second one data is left over: "extraneous bytes before marker", as `djpeg` says.
The decoder reads pieces, of which one ends a little before the end of the scan: if it has not asked for the next one, the
bytes after it are left over.
"""

from __future__ import annotations

import pyvips

from ..headers.jpeg_scan import Scan, find_scan, search_scan_end
from .phased_source import PhasedSource

__all__ = ["ScanReader", "reads_last_blocks"]

_NOTICED_NBYTES = 16  # least number of bytes that count as left over
_BLOCK_ROWS = 8  # of a JPEG; a decoder reads one or two rows of blocks at a time
_PADDING = b"\x00\xff"  # bytes that some cameras append to a scan
_TAIL_NBYTES = 4096  # in which the end of the padding is looked for at first


class ScanReader:
    """The bytes of a JPEG with one scan, read from the start to the end."""

    def __init__(self, data: memoryview, earlier: ScanReader | None = None, height: int = 0, shrink: int = 1) -> None:
        """Args:
        data: the whole file. It must exist until the decoder has ended.
        earlier: a reader of the same file, which knows its scan.
        height: height of the picture in pixels, if the decoder shrinks it.
        shrink: the factor by which it does.
        """
        self._data = data
        self.scan = find_scan(data) if earlier is None else earlier.scan
        dropped_nbytes = 0 if reads_last_blocks(height, shrink) else _dropped_nbytes(self.scan, height)
        self._boundary = _boundary(data, self.scan.end, max(_NOTICED_NBYTES, dropped_nbytes))
        self._phased: PhasedSource | None = None

    def open(self) -> pyvips.Source:
        """Returns what a loader of libvips takes. The reader must exist until the decoder has ended: libvips calls it."""
        self._phased = PhasedSource(self._data, max(self._boundary, 0))
        return self._phased.source

    def close(self) -> None:
        """Drops the references to the file, because libvips may free the source later."""
        self._data, self._phased = memoryview(b""), None

    def left_over_nbytes(self) -> int:
        """Returns the bytes of the scan that the decoder did not need, or fewer, without padding; those of dropped rows are
        not counted. It is 0 for a file whose scan does not end.

        If the scan ends before its supposed end, the number is only a reason to read the file once more, because the pieces
        were those for another end.
        """
        assert self._phased is not None, "the reader is not open"
        position = self._phased.position
        if position > self._boundary:
            return 0
        if not self.scan.is_certain:
            self.scan = search_scan_end(self._data, self.scan)
        return max(self.scan.end - position, _NOTICED_NBYTES)


def reads_last_blocks(height: int, shrink: int) -> bool:
    """Whether libvips reads the last row of blocks of a JPEG that the decoder shrinks. If only a part of a pixel is made of
    it, libvips drops it."""
    rest = height % _BLOCK_ROWS
    return rest == 0 or rest >= shrink


def _dropped_nbytes(scan: Scan, height: int) -> int:
    """Returns the bytes that a decoder may leave over for the last row of blocks: up to twice the mean length of two rows."""
    return 4 * scan.end * _BLOCK_ROWS // height


def _boundary(data: memoryview, end: int, noticed_nbytes: int) -> int:
    """Returns the offset after which at least `noticed_nbytes` of the scan follow, with one of them that is no padding."""
    nbytes = _TAIL_NBYTES
    while not (tail := bytes(data[max(end - nbytes, 0) : end]).rstrip(_PADDING)) and nbytes < end:
        nbytes *= 8
    return min(end - noticed_nbytes, max(end - nbytes, 0) + len(tail) - 1)
