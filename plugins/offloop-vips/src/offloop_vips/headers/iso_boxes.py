"""Boxes of an ISO base media file, which an AVIF is: walked level by level, and the properties of the primary item.

The number of boxes, items and bytes that are looked at is bounded, and so is the work. Boxes that may be there only once are
refused when they are there twice, because two readers might take different ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from
from typing import NamedTuple

__all__ = ["Box", "BoxError", "find_only", "primary_properties", "walk"]

MAX_BOXES = 200  # at each level; a burst of pictures has a few dozen
MAX_PROPERTIES_NBYTES = 16_384  # of all items together: a kilobyte in all that we have met
MAX_ITEMS = 500  # with properties; a picture of 8,000 x 6,000 in tiles of 512 has 192


class BoxError(ValueError):
    """The boxes are broken, ambiguous, or more than are looked at."""


class Box(NamedTuple):
    """One box: its kind, and where its contents begin and end."""

    kind: bytes
    start: int
    end: int


def walk(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes of one level, cut off at `end`.

    Raises:
        BoxError: there are more than `MAX_BOXES`, or one is shorter than its own head.
    """
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        nbytes, kind = unpack_from(">I4s", data, start)
        head = 8
        if nbytes == 1:
            nbytes, head = unpack_from(">Q", data, start + 8)[0], 16
        stop = start + nbytes if nbytes else end
        if nbytes and nbytes < head:
            raise BoxError
        yield Box(kind, start + head, min(stop, end))
        start = stop
    raise BoxError


def find_only(boxes: list[Box], kind: bytes) -> Box:
    """The one box of that kind.

    Raises:
        BoxError: there is none, or more than one.
    """
    found = [box for box in boxes if box.kind == kind]
    if len(found) != 1:
        raise BoxError
    return found[0]


def primary_properties(data: bytes, meta: Box) -> tuple[Box, list[Box]]:
    """The box `iprp`, and the properties that are associated with the primary item, in the order in which they apply.

    Raises:
        BoxError: a box is missing or there twice, or there are more bytes or items than are looked at.
    """
    inside = list(walk(data, meta.start + 4, meta.end))
    iprp, pitm = find_only(inside, b"iprp"), find_only(inside, b"pitm")
    if iprp.end - iprp.start > MAX_PROPERTIES_NBYTES:
        raise BoxError
    item = unpack_from(">I" if data[pitm.start] else ">H", data, pitm.start + 4)[0]
    parts = list(walk(data, iprp.start, iprp.end))
    ipco = find_only(parts, b"ipco")
    properties = list(walk(data, ipco.start, ipco.end))
    numbers = _associated(data, [box for box in parts if box.kind == b"ipma"], item)
    return iprp, [properties[number - 1] for number in numbers if 0 < number <= len(properties)]


def _associated(data: bytes, associations: list[Box], item: int) -> list[int]:
    """The numbers, from 1, of an item's properties."""
    left = MAX_ITEMS
    for box in associations:
        version, wide = data[box.start], data[box.start + 3] & 1
        (entries,) = unpack_from(">I", data, box.start + 4)
        at = box.start + 8
        for _ in range(entries):
            left -= 1
            if left < 0 or at >= box.end:
                raise BoxError
            (number,) = unpack_from(">I" if version else ">H", data, at)
            at += 4 if version else 2
            count = data[at]
            at += 1
            if number == item:
                kinds = unpack_from(f">{count}{'H' if wide else 'B'}", data, at)
                return [kind & (0x7FFF if wide else 0x7F) for kind in kinds]
            at += count * (2 if wide else 1)
    raise BoxError
