"""Transformations of an AVIF: clean aperture (a crop), rotation and mirroring, in the order in which they are applied."""

from __future__ import annotations

from struct import unpack_from

from .iso_boxes import Box

__all__ = ["apply_transformations"]

# EXIF orientation for a rotation, in counterclockwise quarter turns, followed by a mirroring about an axis
_ORIENTATIONS: dict[tuple[int, int | None], int] = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip


def apply_transformations(data: bytes, properties: list[Box], size: tuple[int, ...]) -> tuple[tuple[int, int], int]:
    """Returns the size of a picture after its crops, but before its EXIF orientation, and the orientation, 1 to 8.

    Raises:
        ZeroDivisionError: a clean aperture has a denominator of zero.
    """
    width, height = size
    quarters, axis = 0, None
    for box in properties:
        if box.kind == b"clap":
            columns, columns_divisor, rows, rows_divisor = unpack_from(">IIII", data, box.start)
            width, height = min(width, round(columns / columns_divisor)), min(height, round(rows / rows_divisor))
        elif box.kind == b"irot":
            turns = data[box.start] & 3
            quarters += turns if axis is None else -turns
            width, height = (height, width) if turns % 2 else (width, height)
        elif box.kind == b"imir":
            mirror = data[box.start] & 1
            if axis is not None and axis != mirror:  # both axes: half a turn
                quarters += 2
            axis = mirror if axis is None else None
    orientation = _ORIENTATIONS[quarters % 4, axis]
    return ((height, width) if orientation >= 5 else (width, height)), orientation  # noqa: PLR2004 (5 to 8 swap the sides)
