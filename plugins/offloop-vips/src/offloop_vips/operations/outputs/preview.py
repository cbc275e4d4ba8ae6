"""Preview: an early, small version of the result."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from offloop.operation import Operation

from .encoder import Encoder
from .jpeg import Jpeg
from .png import Png
from .webp import Webp

__all__ = ["Preview"]


class Preview(Operation, frozen=True):
    """Hands over a small picture before the result: the first page, after the steps before this one.

    It is made for a caller that receives it: `Pool.run(on_preview=...)`, `Pool.map`, a loop over `Pool.run_many`. The result is
    the same with and without it. Only these steps can come before it: Decode, AutoOrient, one Resize, Grayscale, Tint, and
    Rotate by a multiple of 90. A source that cannot be decoded has no preview.
    """

    size: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Maximum width and height in pixels. The picture is not enlarged."""

    format: Literal["webp", "jpeg", "png"] = "webp"
    """Format of the file."""

    previews: ClassVar[int] = 1

    @property
    def encoder(self) -> Encoder:
        """The encoder that makes the file."""
        return _ENCODERS[self.format]


_ENCODERS: dict[str, Encoder] = {"webp": Webp(quality=60, effort=2), "jpeg": Jpeg(quality=60), "png": Png()}
