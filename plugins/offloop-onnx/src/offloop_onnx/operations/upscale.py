"""Upscale: enlarge a picture with a super-resolution model."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ..onnx_model import OnnxModel
from ..shipped_models import PHOTO

__all__ = ["Upscale"]


class Upscale(Operation, frozen=True):
    """Makes a picture `factor` times as wide and as high, with a model that draws detail.

    The source is a raster. The result is a raster with the same bands and dtype. The picture is cut into tiles that overlap,
    and each tile is written into the result when it is computed. An alpha band is enlarged with Lanczos' kernel.
    """

    factor: Annotated[int, Meta(ge=2, le=16)] = 2
    """Result pixels per source pixel and side. It has to be the model's `scale`."""

    model: Literal["photo"] | OnnxModel = "photo"
    """Model that enlarges: "photo", or a model with the output "rgb"."""

    tile: Annotated[int, Meta(ge=16, le=4096)] = 192
    """Width and height of a tile in source pixels, without its overlap. A larger tile needs more memory."""

    overlap: Annotated[int, Meta(ge=0, le=256)] = 16
    """Source pixels around a tile that the model sees, too. Half of it is blended with the neighbouring tile."""

    def check(self) -> None:
        model = self.onnx_model
        if model.output != "rgb" or model.size is not None:
            raise InvalidTask(
                f"Upscale(model={model.name!r}): expected a model for pictures of any size with the output 'rgb',"
                f" but it has size={model.size!r}, output={model.output!r}"
            )
        if self.factor != model.scale:
            raise InvalidTask(f"Upscale(factor={self.factor}): {model.name!r} enlarges {model.scale} times")
        if (self.tile + 2 * self.overlap) % model.multiple:
            raise InvalidTask(
                f"Upscale(tile={self.tile}, overlap={self.overlap}): {model.name!r} takes sides that are a multiple of"
                f" {model.multiple}, but a tile with its overlap is {self.tile + 2 * self.overlap} pixels wide"
            )

    @property
    def onnx_model(self) -> OnnxModel:
        """The model that `model` names."""
        return self.model if isinstance(self.model, OnnxModel) else PHOTO
