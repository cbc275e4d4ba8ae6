"""What goes into a message instead of bytes: where in shared memory they lie.

A handle is a claim, not a right. The supervisor looks each one up among the leases of the worker that sent it, and the
generation tells a block from an earlier one at the same place.
"""

from __future__ import annotations

from math import prod
from typing import Annotated

import msgspec

__all__ = ["INBOX", "MAX_DIMENSIONS", "OUTBOX", "EncodedAt", "Handle", "RasterAt", "WrittenTo", "check_shape", "itemsize_of"]

_SIZES = {  # bytes per sample, by the letter of the kind
    "b": ("1",),
    "u": ("1", "2", "4", "8"),
    "i": ("1", "2", "4", "8"),
    "f": ("2", "4", "8", "16"),
    "c": ("8", "16"),
}

MAX_DIMENSIONS = 8

_MAX_SIDES_NBYTES = 1 << 62  # the sides that are not 0, multiplied: numpy counts an empty array's bytes so, in 63 bits

INBOX = 0  # the pool's inbox: the supervisor writes, every worker reads
OUTBOX = 1  # the worker's own outbox: it writes, the supervisor reads


class Handle(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A piece of a segment that both ends have mapped."""

    segment: int  # INBOX or OUTBOX
    offset: int  # bytes from the start of the segment
    nbytes: int
    generation: int  # the block's number, never used twice in a pool


class EncodedAt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="e", gc=False):
    """Bytes of a file format, or any bytes. No handle: there are none."""

    block: Handle | None


class RasterAt(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="r", gc=False):
    """Samples: C-contiguous. A picture is (height, width) or (height, width, bands)."""

    block: Handle | None
    shape: tuple[int, ...]  # 1 to `MAX_DIMENSIONS` sides
    dtype: str  # numpy type string with byte order: "|u1"

    def __post_init__(self) -> None:
        """Refuse a shape that does not fill the block exactly: an array that is made of it would reach past its end."""
        check_shape(self.shape, self.dtype, self.block.nbytes if self.block else 0)


class WrittenTo(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="w", gc=False):
    """The worker wrote the file that the task named."""

    nbytes: Annotated[int, msgspec.Meta(ge=0)]


def check_shape(shape: tuple[int, ...], dtype: str, nbytes: int) -> None:
    """Check that an array can have this shape, and fills so many bytes.

    Raises:
        ValueError: it cannot, or does not.
    """
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        raise ValueError(f"it has {len(shape)} dimensions; give 1 to {MAX_DIMENSIONS}")
    itemsize = itemsize_of(dtype)
    if min(shape) < 0 or prod(shape) * itemsize != nbytes:
        raise ValueError(f"shape {shape} of {dtype!r} does not fill {nbytes} bytes")
    if nbytes == 0 and prod(side for side in shape if side) * itemsize > _MAX_SIDES_NBYTES:
        raise ValueError(f"shape {shape} holds no samples, and no array can have it")


def itemsize_of(dtype: str) -> int:
    """Bytes per sample of a plain numeric numpy type string.

    Raises:
        ValueError: it is something else (objects, structures, strings).
    """
    order, kind, size = dtype[:1], dtype[1:2], dtype[2:]
    if order in ("<", ">", "|", "=") and size in _SIZES.get(kind, ()):
        return int(size)
    raise ValueError(f"{dtype!r} is not a plain numeric type such as '|u1' or '<f4'")
