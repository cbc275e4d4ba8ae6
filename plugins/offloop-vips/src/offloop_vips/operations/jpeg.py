"""JPEG encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from offloop.errors import InvalidTask

from ..colours import Colour, check_colour, rgba
from ..headers.formats import FormatName
from ..picture import Image, Picture
from .encoder import Encoder

__all__ = ["Jpeg"]


class Jpeg(Encoder, frozen=True):
    """Makes a JPEG file: one page, no alpha."""

    format: ClassVar[FormatName] = "jpeg"
    typical_ratio: ClassVar[float] = 0.15

    quality: Annotated[int, Meta(ge=1, le=100)] = 80
    """Encoding quality, 1 to 100."""

    progressive: bool = False
    """Order the data so that a viewer can show a coarse picture first. Encoder and decoder then keep the whole image."""

    chroma_subsampling: Literal["4:2:0", "4:4:4"] = "4:2:0"
    """Chroma resolution: half in both directions, or full."""

    optimise_coding: bool = True
    """Compute the Huffman tables for this picture instead of using the standard tables."""

    mozjpeg: bool = False
    """Make a smaller file in several times the time. The file is always progressive."""

    background: Colour = "black"
    """Opaque colour behind the transparent parts of the picture."""

    def check(self) -> None:
        check_colour(self, "background")
        if rgba(self.background).alpha != 1:
            raise InvalidTask(f"Jpeg(background={self.background!r}): JPEG has no transparency; give an opaque colour")


def prepare(picture: Picture, jpeg: Jpeg) -> Picture:
    if not picture.image.hasalpha():
        return picture.with_depth(8)
    background = rgba(jpeg.background)
    picture = picture.with_bands_for(background).straight()
    colours = picture.samples_of(background)[:-1]
    return picture.with_image(picture.image.flatten(background=colours, max_alpha=picture.max_sample)).with_depth(8)


def save(image: Image, jpeg: Jpeg, target: object) -> None:
    image.jpegsave_target(
        target,
        keep="none",
        Q=jpeg.quality,
        interlace=jpeg.progressive or jpeg.mozjpeg,
        subsample_mode="on" if jpeg.chroma_subsampling == "4:2:0" else "off",
        optimize_coding=jpeg.optimise_coding,
        trellis_quant=jpeg.mozjpeg,
        overshoot_deringing=jpeg.mozjpeg,
        optimize_scans=jpeg.mozjpeg,
        quant_table=3 if jpeg.mozjpeg else 0,
    )
