"""Hand out samples instead of a file."""

from __future__ import annotations

from typing import Literal

from offloop.operation import Operation

__all__ = ["Raw"]


class Raw(Operation, frozen=True):
    """End in a raster: samples in memory, shape (height, width, bands), several pages one below the other."""

    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    """The samples' type. Values are 0 to 255 whichever it is."""
