"""What the file encoders have in common."""

from __future__ import annotations

from typing import ClassVar

from offloop.operation import Operation

from ..headers.formats import FormatName

__all__ = ["Encoder"]


class Encoder(Operation, frozen=True):
    """The last step, which makes a file. Metadata is left out, and colours are sRGB."""

    format: ClassVar[FormatName]
    """The format it makes."""

    typical_ratio: ClassVar[float]
    """Bytes of the file to bytes of its samples, for a photograph: what result memory is asked for first."""

    holds_pages: ClassVar[bool] = False
    """Whether it can make one file of several pages."""
