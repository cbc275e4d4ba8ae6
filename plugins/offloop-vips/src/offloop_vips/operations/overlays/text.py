"""Text over the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal
from xml.sax.saxutils import escape

from msgspec import Meta

from offloop.errors import InvalidTask

from ...colours import Colour, check_colour, rgba
from ...geometry import Position, Size, is_strategy, offset
from ...limits import check_pixels
from ...picture import Picture, image_class, interpretation_of
from ..step import Shape, Step, StepCost
from .blending import blend_over

__all__ = ["Text"]

_FONT = r"^[A-Za-z0-9 ,.-]{1,100}$"  # a family and styles, as Pango reads them
_DPI = 72  # so that a point is a pixel


class Text(Step, frozen=True):
    """Draws text over the picture. The text is plain: markup has no effect. Fonts are those of the system of the workers."""

    text: Annotated[str, Meta(min_length=1, max_length=2000)]
    """Text of one or several lines."""

    font: Annotated[str, Meta(pattern=_FONT)] = "sans"
    """Family and style: "sans", "DejaVu Serif Bold"."""

    size: Annotated[int, Meta(ge=4, le=1000)] = 24
    """Height of the font in pixels."""

    color: Colour = "white"
    """Colour, with alpha or not."""

    gravity: Position = "centre"
    """Place of the text: a gravity or a side."""

    margin: Annotated[int, Meta(ge=0, le=100_000)] = 0
    """Least distance to the edges of the picture, in pixels. Lines are wrapped between the margins."""

    align: Literal["left", "centre", "right"] = "left"
    """Alignment of lines of different lengths."""

    spacing: Annotated[int, Meta(ge=0, le=1000)] = 0
    """Additional pixels between lines."""

    def check(self) -> None:
        check_colour(self, "color")
        if is_strategy(self.gravity):
            raise InvalidTask(f"Text(gravity={self.gravity!r}): expected a gravity or a side")
        if any(not character.isprintable() and character != "\n" for character in self.text):
            raise InvalidTask("Text(text=...): it has control characters; the only one with a meaning is a line break")

    def apply(self, picture: Picture) -> Picture:
        picture = picture.in_known_colours()
        overlay, area = self._drawn(picture), picture.page_size
        place = offset(
            overlay.page_size, Size(area.width - 2 * self.margin, area.height - 2 * self.margin), self.gravity, cropping=False
        )
        return blend_over(picture, overlay, "over", place[0] + self.margin, place[1] + self.margin)

    def shape_after(self, shape: Shape) -> Shape:
        return shape.with_colours(3)

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        text_nbytes = 16 * len(self.text) * self.size * self.size
        return StepCost(work_ns=30.0, alpha_factor=1.0, rows=400, fixed_nbytes=10_000_000 + text_nbytes)

    def _drawn(self, picture: Picture) -> Picture:
        width = picture.page_size.width - 2 * self.margin
        if width < 1:
            raise InvalidTask(f"Text(margin={self.margin}): there is no room in a picture of {picture.page_size.width} pixels")
        check_pixels(Size(self.size, self.size * len(self.text)), 1, picture.max_pixels)
        images = image_class(picture.image)
        mask = images.text(
            escape(self.text),
            font=f"{self.font} {self.size}",
            width=width,
            align="centre" if self.align == "centre" else "high" if self.align == "right" else "low",
            spacing=self.spacing,
            dpi=_DPI,
        )
        colour = picture.levels_of(rgba(self.color))
        red, green, blue, _ = colour
        name = interpretation_of(3, is_deep=picture.is_deep)
        factor = picture.max_sample / 255
        colours = images.black(mask.width, mask.height, bands=3).linear(
            [1, 1, 1], [red * factor, green * factor, blue * factor]
        )
        alpha = mask.cast("float") * (colour.alpha * factor)
        image = colours.bandjoin(alpha).linear(1, 0.5).cast("ushort" if picture.is_deep else "uchar")
        return replace(picture, image=image.copy(interpretation=name), pages=1, is_premultiplied=False)
