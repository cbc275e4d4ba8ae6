"""Number of pages or frames of a source, counted without a decoder and up to a limit.

Only WebP and TIFF are counted, because their decoders take long for pages that nothing uses: libwebp builds its list of frames
in quadratic time, and libtiff reads every directory. A WebP with too many other chunks counts as one with too many frames.
"""

from __future__ import annotations

from struct import error, unpack_from

from .formats import FormatName
from .tiff_tags import is_bigtiff

__all__ = ["count_pages"]

_MAX_OTHER_CHUNKS = 1000  # of a WebP, besides its frames
_ANIMATED = 0x02  # flag in VP8X


def count_pages(source: FormatName, data: memoryview, max_pages: int) -> int:
    """Returns the number of pages, or `max_pages` + 1 if there are more. 0: the format is not counted, or the file broken."""
    try:
        if source == "webp":
            return _count_webp_frames(data, max_pages)
        if source == "tiff":
            return _count_tiff_directories(data, max_pages)
    except error:
        return 0
    return 0


def _count_webp_frames(data: memoryview, max_frames: int) -> int:
    if bytes(data[12:16]) != b"VP8X" or data.nbytes <= 20 or not data[20] & _ANIMATED:  # noqa: PLR2004 (offset of the flags)
        return 1
    frames, at = 0, 12
    for _ in range(max_frames + _MAX_OTHER_CHUNKS):
        if at + 8 > data.nbytes:
            return frames
        kind, nbytes = unpack_from("<4sI", data, at)
        frames += kind == b"ANMF"
        if frames > max_frames:
            return frames
        at += 8 + nbytes + nbytes % 2
    return max_frames + 1


def _count_tiff_directories(data: memoryview, max_directories: int) -> int:
    order = "<" if bytes(data[:1]) == b"I" else ">"
    is_big = is_bigtiff(data, order)
    offset_code, count_nbytes, entry_nbytes = ("Q", 8, 20) if is_big else ("I", 2, 12)
    directories, at = 0, unpack_from(order + offset_code, data, 8 if is_big else 4)[0]
    while at and directories <= max_directories:
        directories += 1
        count = unpack_from(order + ("Q" if is_big else "H"), data, at)[0]
        at = unpack_from(order + offset_code, data, at + count_nbytes + entry_nbytes * count)[0]
    return directories
