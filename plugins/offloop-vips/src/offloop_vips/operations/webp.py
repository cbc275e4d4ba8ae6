"""Make a WebP file."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from ..headers.formats import FormatName
from ..picture import Image
from .encoder import Encoder

__all__ = ["Webp"]


class Webp(Encoder, frozen=True):
    """Make a WebP file, with or without alpha; several pages become an animation."""

    format: ClassVar[FormatName] = "webp"
    typical_ratio: ClassVar[float] = 0.1
    holds_pages: ClassVar[bool] = True

    quality: Annotated[int, Meta(ge=1, le=100)] = 80

    alpha_quality: Annotated[int, Meta(ge=0, le=100)] = 100

    lossless: bool = False
    """Keep every visible pixel as it is; quality is then how hard to compress."""

    near_lossless: bool = False
    """Lossless after small changes that help compression; quality is how small."""

    smart_subsample: bool = False
    """Subsample colour with more care for sharp edges between colours."""

    effort: Annotated[int, Meta(ge=0, le=6)] = 4
    """How much time to spend on a smaller file."""


def prepare(image: Image, _webp: Webp) -> Image:
    return image.colourspace("srgb")  # the format knows no grey


def save(image: Image, webp: Webp, target: object) -> None:
    image.webpsave_target(
        target,
        keep="none",
        Q=webp.quality,
        alpha_q=webp.alpha_quality,
        lossless=webp.lossless,
        near_lossless=webp.near_lossless,
        smart_subsample=webp.smart_subsample,
        effort=webp.effort,
    )
