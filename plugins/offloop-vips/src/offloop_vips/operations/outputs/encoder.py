"""Base class of the file encoders."""

from __future__ import annotations

from typing import ClassVar

from offloop.operation import Operation

from ...headers.formats import FormatName
from ...picture import Image, Picture

__all__ = ["Encoder"]


class Encoder(Operation, frozen=True):
    """Last step of a pipeline, which makes a file. Metadata is dropped. Colours are sRGB, or the file has their profile."""

    format: ClassVar[FormatName]
    """Format of the file."""

    typical_ratio: ClassVar[float]
    """Bytes of the file per byte of samples, for a photograph: the size of the first request for result memory."""

    can_hold_pages: ClassVar[bool] = False
    """Whether the format can hold several pages in one file."""

    can_hold_profile: ClassVar[bool] = True
    """Whether the format can hold an ICC profile."""

    needs_seek: ClassVar[bool] = False
    """Whether the encoder goes back in the file, so that it is written to private memory first."""

    def prepare(self, picture: Picture) -> Picture:
        """Returns the picture with samples that the format can hold."""
        raise NotImplementedError

    def save(self, image: Image, target: object, keep: int = 0) -> None:
        """Encodes the image of a prepared picture into a target of libvips, with metadata by the flags of libvips."""
        raise NotImplementedError
