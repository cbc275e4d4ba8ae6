"""Restore: remove the traces of JPEG compression, and slight noise."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from offloop.operation import Operation

from ..onnx_model import OnnxModel
from ..shipped_models import RESTORERS

__all__ = ["Restore"]


class Restore(Operation, frozen=True):
    """Removes the traces of strong JPEG compression, and with "strong" slight noise, from a photograph, with a model.

    The source is a raster. The result is a raster with the same sides, bands and dtype. The picture is cut into tiles, as by
    `Upscale`. An alpha band is kept as it is. A picture without such defects loses fine detail.
    """

    strength: Literal["light", "strong"] = "light"
    """light: for JPEG of a quality of about 50 to 75. strong: for a quality below 50, and noise of about 10 levels of 255."""

    tile: Annotated[int, Meta(ge=16, le=4096)] = 192
    """Width and height of a tile in pixels, without its overlap. A larger tile needs more memory."""

    overlap: Annotated[int, Meta(ge=0, le=256)] = 16
    """Pixels around a tile that the model sees, too. Half of it is blended with the neighbouring tile."""

    factor: ClassVar[int] = 1  # result pixels per source pixel and side

    @property
    def onnx_model(self) -> OnnxModel:
        """The model for `strength`."""
        return RESTORERS[self.strength]
