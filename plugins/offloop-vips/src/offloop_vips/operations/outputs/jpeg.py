"""JPEG encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from offloop.errors import InvalidTask

from ...colours import Colour, check_colour, rgba
from ...headers.formats import FormatName
from ...picture import Image, Picture
from .encoder import Encoder
from .quality_goal import MaxBytes, QualityTarget, check_goal

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

    max_bytes: MaxBytes | None = None
    """Greatest length of the file in bytes. From `quality` on, the quality is reduced until the file fits. If even the lowest
    does not fit, the task fails with "output_too_large"."""

    target: QualityTarget | None = None
    """Least similarity to the picture that is encoded, as "ssim:0.98": the lowest quality that reaches it is taken, or 100."""

    def check(self) -> None:
        check_goal(self, default_quality=80)
        check_colour(self, "background")
        if rgba(self.background).alpha != 1:
            raise InvalidTask(f"Jpeg(background={self.background!r}): JPEG has no transparency; give an opaque colour")

    def prepare(self, picture: Picture) -> Picture:
        return picture.flattened(rgba(self.background)).with_depth(8)

    def save(self, image: Image, target: object, keep: int = 0) -> None:
        image.jpegsave_target(
            target,
            keep=keep,
            Q=self.quality,
            interlace=self.progressive or self.mozjpeg,
            subsample_mode="on" if self.chroma_subsampling == "4:2:0" else "off",
            optimize_coding=self.optimise_coding,
            trellis_quant=self.mozjpeg,
            overshoot_deringing=self.mozjpeg,
            optimize_scans=self.mozjpeg,
            quant_table=3 if self.mozjpeg else 0,
        )
