"""What goes into a message instead of bytes: where in shared memory they lie.

A handle is a claim, not a right. The supervisor looks each one up among the leases of the worker that sent it, and the
generation tells a block from an earlier one at the same place.
"""

from __future__ import annotations

from math import prod
from typing import Annotated

import msgspec

__all__ = ["INBOX", "OUTBOX", "EncodedAt", "Handle", "RasterAt", "WrittenTo", "itemsize_of"]

_SIZES = {  # bytes per sample, by the letter of the kind
    "b": ("1",),
    "u": ("1", "2", "4", "8"),
    "i": ("1", "2", "4", "8"),
    "f": ("2", "4", "8", "16"),
    "c": ("8", "16"),
}

_MAX_EMPTY_SIDE = 1 << 24  # numpy multiplies the sides that are not 0, and three of these with the largest sample still fit

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
    """Samples: C-contiguous, (height, width, bands)."""

    block: Handle | None
    shape: tuple[int, int, int]
    dtype: str  # numpy type string with byte order: "|u1"

    def __post_init__(self) -> None:
        """Refuse a shape that does not fill the block exactly: whoever maps it as an array would read past it."""
        nbytes = self.block.nbytes if self.block else 0
        if min(self.shape) < 0 or prod(self.shape) * itemsize_of(self.dtype) != nbytes:
            raise ValueError(f"shape {self.shape} of {self.dtype!r} does not fill {nbytes} bytes")
        if nbytes == 0 and max(self.shape) > _MAX_EMPTY_SIDE:
            raise ValueError(f"shape {self.shape} holds no samples, and no array can have it")


class WrittenTo(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="w", gc=False):
    """The worker wrote the file that the task named."""

    nbytes: Annotated[int, msgspec.Meta(ge=0)]


def itemsize_of(dtype: str) -> int:
    """Bytes per sample of a plain numeric numpy type string.

    Raises:
        ValueError: it is something else (objects, structures, strings).
    """
    order, kind, size = dtype[:1], dtype[1:2], dtype[2:]
    if order in ("<", ">", "|", "=") and size in _SIZES.get(kind, ()):
        return int(size)
    raise ValueError(f"{dtype!r} is not a plain numeric type such as '|u1' or '<f4'")
