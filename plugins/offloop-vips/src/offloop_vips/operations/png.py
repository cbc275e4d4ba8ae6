"""Make a PNG file."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from offloop.errors import InvalidTask

from ..headers.formats import FormatName
from ..picture import Image
from .encoder import Encoder

__all__ = ["Png"]

_DEFAULTS = (7, 256, 1.0)


class Png(Encoder, frozen=True):
    """Make a PNG file: one page, with or without alpha."""

    format: ClassVar[FormatName] = "png"
    typical_ratio: ClassVar[float] = 0.6

    compression_level: Annotated[int, Meta(ge=0, le=9)] = 6
    """zlib's: 0 is fast and large, 9 slow and small."""

    progressive: bool = False
    """Interlace, so that a viewer can show a coarse picture first."""

    adaptive_filtering: bool = False
    """Try every filter on each row: smaller photographs, more slowly."""

    palette: bool = False
    """Reduce the picture to a palette, alpha included; the fields below apply to this."""

    effort: Annotated[int, Meta(ge=1, le=10)] = 7
    """How hard to look for a good palette."""

    colours: Annotated[int, Meta(ge=2, le=256)] = 256
    """How many palette entries there may be: rounded up to 2, 4, 16 or 256, as the format has them."""

    dither: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """How much of the error is passed on to neighbouring pixels."""

    def check(self) -> None:
        if not self.palette and (self.effort, self.colours, self.dither) != _DEFAULTS:
            raise InvalidTask("Png: effort, colours and dither do nothing without palette=True")


def prepare(image: Image, _png: Png) -> Image:
    return image


def save(image: Image, png: Png, target: object) -> None:
    palette = {"effort": png.effort, "bitdepth": _bitdepth(png.colours), "dither": png.dither}
    image.pngsave_target(
        target,
        keep="none",
        compression=png.compression_level,
        interlace=png.progressive,
        filter="all" if png.adaptive_filtering else "none",
        palette=png.palette,
        **(palette if png.palette else {}),
    )


def _bitdepth(colours: int) -> int:
    return next(bits for bits in (1, 2, 4, 8) if colours <= 1 << bits)
