"""Handles: references to shared memory, which messages contain instead of the bytes.

The supervisor does not trust a handle. It looks each one up in the leases of the worker that sent it. The generation
distinguishes a block from an earlier one at the same offset.
"""

from __future__ import annotations

from math import prod
from typing import Annotated

import msgspec

__all__ = ["INBOX", "MAX_DIMENSIONS", "OUTBOX", "EncodedAt", "Handle", "RasterAt", "WrittenTo", "check_shape", "itemsize_of"]

_SIZES = {  # kind letter of the dtype -> possible bytes per sample
    "b": ("1",),
    "u": ("1", "2", "4", "8"),
    "i": ("1", "2", "4", "8"),
    "f": ("2", "4", "8", "16"),
    "c": ("8", "16"),
}

MAX_DIMENSIONS = 8  # maximum sides of a raster

_MAX_SIDES_NBYTES = 1 << 62  # limit of the nonzero sides' product in bytes, because numpy counts it in 63 bits if a side is 0

INBOX = 0  # segment number of the pool's inbox: the supervisor writes, every worker reads
OUTBOX = 1  # segment number of the worker's outbox: the worker writes, the supervisor reads


class Handle(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Location of a block in a segment that supervisor and worker have mapped."""

    segment: int  # INBOX or OUTBOX
    offset: int  # distance from the start of the segment in bytes
    nbytes: int  # length of the data in bytes
    generation: int  # number of the block, never used twice in a pool


class EncodedAt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="e", gc=False):
    """Location of the bytes of a file format, or of any bytes."""

    block: Handle | None  # None: zero bytes


class RasterAt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r", gc=False):
    """Location of C-contiguous samples. A picture is (height, width) or (height, width, bands)."""

    block: Handle | None  # None: zero bytes
    shape: tuple[int, ...]  # 1 to `MAX_DIMENSIONS` sides
    dtype: str  # numpy type string with byte order: "|u1"

    def __post_init__(self) -> None:
        """Refuse a shape that does not fill the block exactly, because an array of that shape could reach past its end."""
        check_shape(self.shape, self.dtype, self.block.nbytes if self.block else 0)


class WrittenTo(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="w", gc=False):
    """The worker wrote the result into the task's file."""

    nbytes: Annotated[int, msgspec.Meta(ge=0)]  # length of the file in bytes


def check_shape(shape: tuple[int, ...], dtype: str, nbytes: int) -> None:
    """Check that an array can have this shape, and has exactly `nbytes` bytes.

    Raises:
        ValueError: an array cannot have this shape or dtype, or has another number of bytes.
    """
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise ValueError(f"it has {len(shape)} dimensions; give 1 to {MAX_DIMENSIONS}")
    itemsize = itemsize_of(dtype)
    if min(shape) < 0 or prod(shape) * itemsize != nbytes:
        raise ValueError(f"shape {shape} of {dtype!r} does not fill {nbytes} bytes")
    if nbytes == 0 and prod(side for side in shape if side) * itemsize > _MAX_SIDES_NBYTES:
        raise ValueError(f"shape {shape} holds no samples, and no array can have it")


def itemsize_of(dtype: str) -> int:
    """Returns the bytes per sample of a plain numeric numpy type string.

    Raises:
        ValueError: the type is not a plain number (objects, structures, strings).
    """
    order, kind, size = dtype[:1], dtype[1:2], dtype[2:]
    if order in ("<", ">", "|", "=") and size in _SIZES.get(kind, ()):
        return int(size)
    raise ValueError(f"{dtype!r} is not a plain numeric type such as '|u1' or '<f4'")
