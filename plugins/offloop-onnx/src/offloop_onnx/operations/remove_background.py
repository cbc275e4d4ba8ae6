"""RemoveBackground: cut out the foreground of a picture."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ..onnx_model import OnnxModel
from ..shipped_models import PEOPLE

__all__ = ["RemoveBackground"]

_Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]


class RemoveBackground(Operation, frozen=True):
    """Makes the background of a picture transparent, or replaces it with a colour.

    The source is a raster. The result is a raster with the same sides and dtype. It has an alpha band, unless `background` is
    opaque. The colour of pixels between foreground and background is estimated, so that no old background shows through. The
    colour of transparent pixels is black. An alpha band of the source is multiplied with the mask.

    A model with `second_pass`, as "people", runs again on the part around what it has found, if that is small. It searches in
    parts of the picture, if it is not sure of what it has found.
    """

    model: Literal["people"] | OnnxModel = "people"
    """Model that finds the foreground: "people", or a model with the output "alpha" or "logits"."""

    mask_only: bool = False
    """Make a grey picture of the opacity instead: one band, white where the foreground is."""

    background: tuple[float, ...] | None = None
    """Red, green and blue of the new background from 0 to 255, in the colour space of the picture, and its alpha from 0 to 1;
    None: transparent."""

    refine: Literal["guided", "none"] = "guided"
    """guided: let the mask's edges follow the edges of the picture. none: enlarge the model's mask."""

    feather: Annotated[float, Meta(ge=0, le=100)] = 0.0
    """Standard deviation in pixels of a blur of the mask."""

    threshold: _Fraction | None = None
    """Opacity from which a pixel is wholly opaque, and below which it is wholly transparent, before `feather`; None: keep
    partial opacity."""

    def check(self) -> None:
        if isinstance(self.model, OnnxModel) and not self.model.is_matting:
            name, output = self.model.name, self.model.output
            raise InvalidTask(f"RemoveBackground(model={name!r}): its output is {output!r}; expected 'alpha' or 'logits'")
        if self.background is not None:
            _check_background(self.background)
        if self.mask_only and self.background is not None:
            raise InvalidTask(f"RemoveBackground(mask_only=True, background={self.background!r}): a mask has no background")

    @property
    def onnx_model(self) -> OnnxModel:
        """The model that `model` names."""
        return self.model if isinstance(self.model, OnnxModel) else PEOPLE


def _check_background(background: tuple[float, ...]) -> None:
    colours, alpha = background[:3], background[3:]
    is_valid = all(0 <= level <= 255 for level in colours) and all(0 <= part <= 1 for part in alpha)  # noqa: PLR2004 (8 bits)
    if len(background) not in (3, 4) or not is_valid:
        raise InvalidTask(
            f"RemoveBackground(background={background!r}): expected (red, green, blue[, alpha]), with colours from 0 to 255"
            " and alpha from 0 to 1"
        )
