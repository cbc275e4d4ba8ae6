"""First scans of a progressive JPEG: a file of its own, with a coarse version of the whole picture.

A progressive JPEG begins with a scan of the mean colour of each block of 8 x 8 pixels, a tenth of the file. Decoding it takes a
fraction of the time for the whole file. libvips cannot stop after a scan, so the bytes up to there become a file.
"""

from __future__ import annotations

import re

__all__ = ["first_scans"]

_MAX_MARKERS = 300  # before the end of the first scans
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, b"\xff\xd9"
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # after the entropy-coded bytes of a scan: no stuffed byte, no restart


def first_scans(data: memoryview) -> bytes | None:
    """Returns a JPEG of the scans up to the one with which every band has its mean colours; None if `data` is not progressive,
    or cannot be read."""
    try:
        end = _find_end(data)
    except LookupError:
        return None
    return None if end is None else bytes(data[:end]) + _END_OF_IMAGE


def _find_end(data: memoryview) -> int | None:
    """Returns the position of the first marker after these scans; None if the JPEG is not progressive, or there is none."""
    missing: set[int] | None = None  # ids of the bands without mean colours; None before the frame
    at = 2
    for _ in range(_MAX_MARKERS):
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # noqa: PLR2004 (fill bytes)
            at += 1
        if data[at] != 0xFF:  # noqa: PLR2004 (each marker begins with this byte)
            return None
        marker, at = data[at + 1], at + 2
        if marker in _STANDALONE:
            continue
        segment = data[at : at + int.from_bytes(data[at : at + 2], "big")]
        at += len(segment)
        if marker in _FRAMES:
            if marker not in _PROGRESSIVE:
                return None
            missing = {segment[8 + 3 * band] for band in range(segment[7])}
        elif marker == _START_OF_SCAN:
            following = _MARKER.search(data, at)
            if missing is None or following is None:
                return None
            at = following.start()
            missing -= _bands_with_mean_colours(segment)
            if not missing:
                return at
    return None


def _bands_with_mean_colours(scan: memoryview) -> set[int]:
    """Returns the ids of the bands whose mean colours a scan contains, by its header."""
    count = scan[2]
    first_coefficient = scan[3 + 2 * count]
    return {scan[3 + 2 * band] for band in range(count)} if first_coefficient == 0 else set()
