"""Directories of TIFF files, and of EXIF data, which is a small TIFF file: the numbers in their tags.

The number of entries that are read is bounded, and so is the work. A directory with more entries is not read at all.
"""

from __future__ import annotations

from struct import error, unpack_from

__all__ = ["HEIGHT", "ORIENTATION", "WIDTH", "TooManyTags", "is_big", "read_orientation", "read_tags"]

MAX_TAGS = 200  # of one directory; there are 80 in use, and cameras add some
MAX_EXIF_NBYTES = 65_536  # as much as one segment of a JPEG holds

WIDTH, HEIGHT, ORIENTATION = 256, 257, 274
_SHORT, _LONG = 3, 4
_BIG_TIFF = 43
_EXIF_PREFIX = b"Exif\0\0"


class TooManyTags(ValueError):
    """A directory has more entries than are read."""


def is_big(data: bytes | memoryview, order: str) -> bool:
    """Whether a TIFF file is a BigTIFF, whose offsets have eight bytes."""
    return unpack_from(order + "H", data, 2)[0] == _BIG_TIFF


def read_tags(data: bytes, at: int, order: str, *, big: bool) -> dict[int, int]:
    """The numbers in the directory at `at`, by tag: the first of several numbers, and of several entries with one tag.

    Raises:
        TooManyTags: it has more than `MAX_TAGS` entries.
        struct.error: it ends behind the data.
    """
    count = unpack_from(order + ("Q" if big else "H"), data, at)[0]
    if count > MAX_TAGS:
        raise TooManyTags
    tags: dict[int, int] = {}
    for number in range(count):
        entry = at + (8 + 20 * number if big else 2 + 12 * number)
        tag, kind = unpack_from(order + "HH", data, entry)
        length = unpack_from(order + ("Q" if big else "I"), data, entry + 4)[0]
        value = entry + (12 if big else 8)
        if kind not in (_SHORT, _LONG):
            continue
        if length * (2 if kind == _SHORT else 4) > (8 if big else 4):
            value = unpack_from(order + ("Q" if big else "I"), data, value)[0]
            if value + 4 > len(data):
                continue
        tags.setdefault(tag, unpack_from(order + ("H" if kind == _SHORT else "I"), data, value)[0])
    return tags


def read_orientation(exif: bytes) -> int | None:
    """The orientation, 1 to 8, in EXIF data, with or without the prefix that JPEG has; None: there is none, or it is broken."""
    data = exif.removeprefix(_EXIF_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    try:
        tag = read_tags(data, unpack_from(order + "I", data, 4)[0], order, big=False).get(ORIENTATION)
    except (TooManyTags, error):
        return None
    return tag if tag is not None and 1 <= tag <= 8 else None  # noqa: PLR2004 (the EXIF orientations)
