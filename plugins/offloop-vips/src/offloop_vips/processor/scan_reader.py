"""Reads a JPEG for libvips, and knows how much of its scan the decoder has left over.

A changed bit makes a decoder take some bytes for others, so that it has all rows after or before the end of the data. libvips
has a message for the first case only. In the second one data is left over: "extraneous bytes before marker", as `djpeg` says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pyvips

from ..headers.jpeg_scan import find_scan_end

__all__ = ["ScanReader", "reads_last_blocks"]

_PIECE_NBYTES = 16  # given to the decoder at a time before the end of the scan, because it takes all that it gets
_LAST_NBYTES = 256  # of the scan, which are given in pieces; each piece takes 6 microseconds
_BLOCK_ROWS = 8  # of a JPEG; a decoder reads one or two rows of blocks at a time
_PADDING = (0x00, 0xFF)  # bytes that some cameras append to a scan


class ScanReader:
    """The bytes of a JPEG with one scan, read once from the start to the end."""

    def __init__(self, data: memoryview, earlier: ScanReader | None = None) -> None:
        """Args:
        data: the whole file. It must exist until the decoder has ended.
        earlier: a reader of the same file, which knows the end of its scan: the search takes 0.4 milliseconds for a megabyte.
        """
        self._data = data
        self.scan_end = (find_scan_end(data) or 0) if earlier is None else earlier.scan_end
        """Offset after the data of the scan; 0 for a scan that does not end."""
        self._at = 0  # offset of the next byte that the decoder gets
        self._expected_nbytes = 0  # of the scan, that the decoder may leave over without damage

    def open(self) -> pyvips.Source:
        """Returns the source for libvips. It must exist until the decoder has ended, because libvips calls it."""
        source = pyvips.SourceCustom()
        source.on_read(cast("Callable[[int], bytes]", self._read))  # it copies from any buffer
        return source

    def close(self) -> None:
        """Drops the reference to the file, because libvips may free the source later."""
        self._data = memoryview(b"")

    def expect_shrunk(self, height: int, shrink: int) -> None:
        """Tells that the decoder shrinks a picture of this height. libvips drops a part of a pixel at the bottom, and with it
        the last row of blocks: up to twice the mean length of two such rows may then be left over."""
        if not reads_last_blocks(height, shrink):
            self._expected_nbytes = 4 * self.scan_end * _BLOCK_ROWS // height

    @property
    def left_over_nbytes(self) -> int:
        """Bytes of the scan that the decoder did not need, without padding; less than 16 are not noticed, and those of dropped
        rows are not counted. It is 0 for a file whose scan does not end."""
        rest = self._data[self._at : self.scan_end]
        least = max(_PIECE_NBYTES, self._expected_nbytes)
        return 0 if len(rest) < least or all(byte in _PADDING for byte in rest) else len(rest)

    def _read(self, nbytes: int) -> memoryview:
        last = self.scan_end - _LAST_NBYTES
        if self._at < last:
            nbytes = min(nbytes, last - self._at)
        elif self._at < self.scan_end:  # pieces whose ends are multiples of their length before the end of the scan
            nbytes = min(nbytes, (self.scan_end - self._at - 1) % _PIECE_NBYTES + 1)
        piece = self._data[self._at : self._at + nbytes]
        self._at += len(piece)
        return piece


def reads_last_blocks(height: int, shrink: int) -> bool:
    """Whether libvips reads the last row of blocks of a JPEG that the decoder shrinks. If only a part of a pixel is made of
    it, libvips drops it."""
    rest = height % _BLOCK_ROWS
    return rest == 0 or rest >= shrink
