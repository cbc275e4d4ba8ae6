"""AVIF encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from offloop.errors import InvalidTask

from ...headers.formats import FormatName
from ...picture import Image, Picture, interpretation_of
from .encoder import Encoder
from .quality_goal import MaxBytes, QualityTarget, check_goal

__all__ = ["Avif"]


class Avif(Encoder, frozen=True):
    """Makes an AVIF file: one page, with or without alpha. The encoder is slow and cannot be interrupted."""

    format: ClassVar[FormatName] = "avif"
    typical_ratio: ClassVar[float] = 0.06

    quality: Annotated[int, Meta(ge=1, le=100)] = 50
    """Encoding quality, 1 to 100."""

    lossless: bool = False
    """Keep every pixel value; needs `chroma_subsampling="4:4:4"`."""

    effort: Annotated[int, Meta(ge=0, le=9)] = 4
    """Encoding effort: more takes longer and makes a smaller file."""

    chroma_subsampling: Literal["4:4:4", "4:2:0"] = "4:4:4"
    """Chroma resolution: full, or half in both directions."""

    bitdepth: Literal[8, 10, 12] = 8
    """Bits of each sample in the file; more bits make smoother gradients after lossy compression."""

    max_bytes: MaxBytes | None = None
    """Greatest length of the file in bytes. From `quality` on, the quality is reduced until the file fits. If even the lowest
    does not fit, the task fails with "output_too_large"."""

    target: QualityTarget | None = None
    """Least similarity to the picture that is encoded, as "ssim:0.98": the lowest quality that reaches it is taken, or 100."""

    def check(self) -> None:
        check_goal(self, default_quality=50)
        if self.lossless and self.chroma_subsampling != "4:4:4":
            raise InvalidTask("Avif(lossless=True, chroma_subsampling='4:2:0'): subsampling loses colour")

    def prepare(self, picture: Picture) -> Picture:
        picture = picture.with_depth(8 if self.bitdepth == 8 else 16)  # noqa: PLR2004 (bits)
        # because decoders give three bands for a grey file, too
        return picture.with_image(picture.image.colourspace(interpretation_of(3, is_deep=picture.is_deep)))

    def save(self, image: Image, target: object, keep: int = 0) -> None:
        image.heifsave_target(
            target,
            keep=keep,
            compression="av1",
            Q=self.quality,
            lossless=self.lossless,
            effort=self.effort,
            subsample_mode="on" if self.chroma_subsampling == "4:2:0" else "off",
            bitdepth=self.bitdepth,
        )
