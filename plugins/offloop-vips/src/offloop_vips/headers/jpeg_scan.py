"""Place of the first scan of a JPEG: its entropy-coded data, without a decoder."""

from __future__ import annotations

import re
from struct import error, unpack_from

__all__ = ["find_scan_end"]

_MAX_MARKERS = 300  # before the scan
_START_OF_SCAN = 0xDA
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
# 0 after 0xFF is data, 0xD0 to 0xD7 restart the decoder within a scan, and 0xFF is a fill byte
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def find_scan_end(data: memoryview) -> int | None:
    """Returns the offset after the data of the first scan; None if there is no scan, or no marker after it."""
    try:
        start = _find_scan(data)
    except (error, IndexError):
        return None
    marker = None if start is None else _NEXT_MARKER.search(data, start)
    return None if marker is None else marker.start()


def _find_scan(data: memoryview) -> int | None:
    at = 2
    for _ in range(_MAX_MARKERS):
        if data[at] != 0xFF:  # noqa: PLR2004 (the first byte of a marker)
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 (a fill byte)
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker == _START_OF_SCAN:
            return at + 2 + unpack_from(">H", data, at + 2)[0]
        else:
            at += 2 + unpack_from(">H", data, at + 2)[0]
    return None
