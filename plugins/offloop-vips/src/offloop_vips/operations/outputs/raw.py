"""Raw output: samples instead of a file."""

from __future__ import annotations

from typing import Literal

from offloop.operation import Operation

__all__ = ["Raw"]


class Raw(Operation, frozen=True):
    """Makes a raster: samples in memory, shape (height, width, bands), several pages stacked from the top down."""

    dtype: Literal["uint8", "uint16", "float32"] = "uint8"
    """Type of the samples. White is 255, or 65535 with "uint16". "float32" has fractions if the source has more than 8 bits."""
