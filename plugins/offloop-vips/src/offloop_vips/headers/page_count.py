"""The number of pages or frames of a source, counted without a decoder, and no further than to a limit.

Only formats are counted whose decoders take more than a moment for each unused page: libwebp's list of frames takes
time by the square of their number, and libtiff reads every directory. A file of more other parts than pages is refused as well.
"""

from __future__ import annotations

from struct import error, unpack_from

from .formats import FormatName
from .tiff_tags import is_big

__all__ = ["count_pages"]

_OTHER_PARTS = 1000  # of a WebP, beside its frames
_ANIMATED = 0x02


def count_pages(source: FormatName, data: memoryview, most: int) -> int:
    """How many pages there are; `most` + 1 where there are more, 0 where they are not counted or the file is broken."""
    try:
        if source == "webp":
            return _webp_frames(data, most)
        if source == "tiff":
            return _tiff_directories(data, most)
    except error:
        return 0
    return 0


def _webp_frames(data: memoryview, most: int) -> int:
    if bytes(data[12:16]) != b"VP8X" or data.nbytes <= 20 or not data[20] & _ANIMATED:  # noqa: PLR2004 (where the flags are)
        return 1
    frames, at = 0, 12
    for _ in range(most + _OTHER_PARTS):
        if at + 8 > data.nbytes:
            return frames
        kind, nbytes = unpack_from("<4sI", data, at)
        frames += kind == b"ANMF"
        if frames > most:
            return frames
        at += 8 + nbytes + nbytes % 2
    return most + 1


def _tiff_directories(data: memoryview, most: int) -> int:
    order = "<" if bytes(data[:1]) == b"I" else ">"
    big = is_big(data, order)
    place, number, entry = ("Q", 8, 20) if big else ("I", 2, 12)
    pages, at = 0, unpack_from(order + place, data, 8 if big else 4)[0]
    while at and pages <= most:
        pages += 1
        count = unpack_from(order + ("Q" if big else "H"), data, at)[0]
        at = unpack_from(order + place, data, at + number + entry * count)[0]
    return pages
