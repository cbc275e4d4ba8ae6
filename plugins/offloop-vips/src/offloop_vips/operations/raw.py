"""Raw output: samples instead of a file."""

from __future__ import annotations

from typing import Literal

from offloop.operation import Operation

__all__ = ["Raw"]


class Raw(Operation, frozen=True):
    """Makes a raster: samples in memory, shape (height, width, bands), several pages stacked from the top down."""

    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    """Type of the samples. Values are 0 to 255 with every type."""
