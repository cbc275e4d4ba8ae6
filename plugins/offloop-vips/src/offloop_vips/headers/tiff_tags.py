"""Integer tags in the directories of TIFF files and of EXIF data, which is a small TIFF file.

The number of entries of a directory is limited, so that the work is bounded. Of a longer directory only the first entries are
read, or none.
"""

from __future__ import annotations

from struct import error, unpack_from

__all__ = ["HEIGHT", "ORIENTATION", "PROFILE", "WIDTH", "TooManyTags", "is_bigtiff", "read_orientation", "read_tags"]

MAX_TAGS = 200  # of one directory; 80 are in use, and cameras add some
MAX_EXIF_NBYTES = 65_536  # capacity of one JPEG segment

WIDTH, HEIGHT, ORIENTATION, PROFILE = 256, 257, 274, 34675
_SHORT, _LONG = 3, 4
_BIG_TIFF = 43
_EXIF_PREFIX = b"Exif\0\0"


class TooManyTags(ValueError):
    """A directory has more than `MAX_TAGS` entries."""


def is_bigtiff(data: bytes | memoryview, order: str) -> bool:
    """Whether a TIFF file is a BigTIFF, with offsets of eight bytes."""
    return unpack_from(order + "H", data, 2)[0] == _BIG_TIFF


def read_tags(data: bytes, at: int, order: str, *, is_big: bool, reads_all: bool = True) -> dict[int, int]:
    """Returns the integer tags of the directory at offset `at`: the first value of a tag, from the first entry with that tag.

    A profile is no integer; its value is 1. Without `reads_all`, entries after the first `MAX_TAGS` are left out.

    Raises:
        TooManyTags: the directory has more than `MAX_TAGS` entries, and `reads_all`.
        struct.error: the directory ends beyond the data.
    """
    count = unpack_from(order + ("Q" if is_big else "H"), data, at)[0]
    if count > MAX_TAGS and reads_all:
        raise TooManyTags
    tags: dict[int, int] = {}
    for number in range(min(count, MAX_TAGS)):
        entry = at + (8 + 20 * number if is_big else 2 + 12 * number)
        tag, kind = unpack_from(order + "HH", data, entry)
        length = unpack_from(order + ("Q" if is_big else "I"), data, entry + 4)[0]
        value = entry + (12 if is_big else 8)
        if kind not in (_SHORT, _LONG):
            if tag == PROFILE:
                tags[tag] = 1
            continue
        if length * (2 if kind == _SHORT else 4) > (8 if is_big else 4):
            value = unpack_from(order + ("Q" if is_big else "I"), data, value)[0]
            if value + 4 > len(data):
                continue
        tags.setdefault(tag, unpack_from(order + ("H" if kind == _SHORT else "I"), data, value)[0])
    return tags


def read_orientation(exif: bytes) -> int | None:
    """Returns the orientation, 1 to 8, from EXIF data with or without JPEG's prefix. None if it is missing or broken."""
    data = exif.removeprefix(_EXIF_PREFIX)
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    try:
        tag = read_tags(data, unpack_from(order + "I", data, 4)[0], order, is_big=False).get(ORIENTATION)
    except (TooManyTags, error):
        return None
    return tag if tag is not None and 1 <= tag <= 8 else None  # noqa: PLR2004 (the EXIF orientations)
