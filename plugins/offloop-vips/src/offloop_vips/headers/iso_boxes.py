"""Boxes of an ISO base media file (AVIF): iteration over one level, and the properties of the primary item.

The numbers of boxes, items and bytes that are read are bounded, and so is the work. A second box of a kind that may occur only
once is an error, because two readers might use different ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from
from typing import NamedTuple

__all__ = ["Box", "BoxError", "find_single_box", "has_reference", "primary_properties", "walk_boxes"]

MAX_BOXES = 200  # of one level; a burst of pictures has a few dozen
MAX_PROPERTIES_NBYTES = 16_384  # of all items together; every file seen had less than a kilobyte
MAX_ITEMS = 500  # with properties; a picture of 8,000 x 6,000 pixels in tiles of 512 has 192


class BoxError(ValueError):
    """The boxes are broken, ambiguous, or exceed a limit."""


class Box(NamedTuple):
    """One box."""

    kind: bytes  # four characters
    start: int  # offset of the contents in the file
    end: int  # offset after the contents


def walk_boxes(data: bytes, start: int, end: int) -> Iterator[Box]:
    """Iterates over the boxes of one level. A box that reaches beyond `end` is cut off there.

    Raises:
        BoxError: there are more than `MAX_BOXES`, or a box is shorter than its own head.
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


def find_single_box(boxes: list[Box], kind: bytes) -> Box:
    """Returns the only box of a kind.

    Raises:
        BoxError: no box, or more than one box, has this kind.
    """
    found = [box for box in boxes if box.kind == kind]
    if len(found) != 1:
        raise BoxError
    return found[0]


def primary_properties(data: bytes, meta: Box) -> tuple[Box, list[Box]]:
    """Returns the box `iprp` and the properties of the primary item, in the order in which they apply.

    Raises:
        BoxError: a box is missing or occurs twice, or a limit on bytes or items is exceeded.
    """
    children = list(walk_boxes(data, meta.start + 4, meta.end))
    iprp, pitm = find_single_box(children, b"iprp"), find_single_box(children, b"pitm")
    if iprp.end - iprp.start > MAX_PROPERTIES_NBYTES:
        raise BoxError
    item = _primary_item(data, pitm)
    containers = list(walk_boxes(data, iprp.start, iprp.end))
    ipco = find_single_box(containers, b"ipco")
    properties = list(walk_boxes(data, ipco.start, ipco.end))
    numbers = _property_numbers(data, [box for box in containers if box.kind == b"ipma"], item)
    return iprp, [properties[number - 1] for number in numbers if 0 < number <= len(properties)]


def has_reference(data: bytes, meta: Box, kind: bytes) -> bool:
    """Whether the primary item refers to another item by a reference of this kind.

    Raises:
        BoxError: a box is missing or occurs twice, or there are more than `MAX_BOXES` references.
    """
    children = list(walk_boxes(data, meta.start + 4, meta.end))
    iref = next((box for box in children if box.kind == b"iref"), None)
    if iref is None:
        return False
    code = ">I" if data[iref.start] else ">H"
    primary = _primary_item(data, find_single_box(children, b"pitm"))
    references = walk_boxes(data, iref.start + 4, iref.end)
    return any(box.kind == kind and unpack_from(code, data, box.start)[0] == primary for box in references)


def _primary_item(data: bytes, pitm: Box) -> int:
    item: int = unpack_from(">I" if data[pitm.start] else ">H", data, pitm.start + 4)[0]
    return item


def _property_numbers(data: bytes, associations: list[Box], item: int) -> list[int]:
    """Returns the numbers of an item's properties in `ipco`, counted from 1."""
    remaining_items = MAX_ITEMS
    for box in associations:
        version, is_wide = data[box.start], data[box.start + 3] & 1
        (entries,) = unpack_from(">I", data, box.start + 4)
        at = box.start + 8
        for _ in range(entries):
            remaining_items -= 1
            if remaining_items < 0 or at >= box.end:
                raise BoxError
            (number,) = unpack_from(">I" if version else ">H", data, at)
            at += 4 if version else 2
            count = data[at]
            at += 1
            if number == item:
                indices = unpack_from(f">{count}{'H' if is_wide else 'B'}", data, at)
                return [index & (0x7FFF if is_wide else 0x7F) for index in indices]
            at += count * (2 if is_wide else 1)
    raise BoxError
