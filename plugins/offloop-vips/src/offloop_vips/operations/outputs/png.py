"""PNG encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from offloop.errors import InvalidTask

from ...headers.formats import FormatName
from ...picture import Image, Picture
from .encoder import Encoder

__all__ = ["Png"]

_DEFAULTS = (7, 256, 1.0)


class Png(Encoder, frozen=True):
    """Makes a PNG file: one page, with or without alpha."""

    format: ClassVar[FormatName] = "png"
    typical_ratio: ClassVar[float] = 0.6

    compression_level: Annotated[int, Meta(ge=0, le=9)] = 6
    """Level of zlib: 0 is fast and large, 9 is slow and small."""

    progressive: bool = False
    """Interlace the file, so that a viewer can show a coarse picture first."""

    adaptive_filtering: bool = False
    """Try every filter on each row: slower, but photographs get smaller."""

    palette: bool = False
    """Reduce the picture to a palette, alpha included. `effort`, `colours` and `dither` need it."""

    effort: Annotated[int, Meta(ge=1, le=10)] = 7
    """Effort of the palette search, 1 to 10."""

    colours: Annotated[int, Meta(ge=2, le=256)] = 256
    """Maximum number of palette entries, rounded up to 2, 4, 16 or 256, which the format supports."""

    dither: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Fraction of the palette error that is passed on to neighbouring pixels, 0 to 1."""

    bitdepth: Literal[8, 16] = 8
    """Bits of each sample. 16 keeps the precision of a source with more than 8; other pictures get larger and not better."""

    def check(self) -> None:
        if self.palette and self.bitdepth != 8:  # noqa: PLR2004 (bits)
            raise InvalidTask("Png(palette=True, bitdepth=16): a palette has colours of 8 bits")
        if not self.palette and (self.effort, self.colours, self.dither) != _DEFAULTS:
            raise InvalidTask("Png: effort, colours and dither have no effect without palette=True")

    def prepare(self, picture: Picture) -> Picture:
        return picture.with_depth(self.bitdepth)

    def save(self, image: Image, target: object, keep: int = 0) -> None:
        palette = {"effort": self.effort, "bitdepth": _bitdepth(self.colours), "dither": self.dither}
        image.pngsave_target(
            target,
            keep=keep,
            compression=self.compression_level,
            interlace=self.progressive,
            filter="all" if self.adaptive_filtering else "none",
            palette=self.palette,
            **(palette if self.palette else {}),
        )


def _bitdepth(colours: int) -> int:
    return next(bits for bits in (1, 2, 4, 8) if colours <= 1 << bits)
