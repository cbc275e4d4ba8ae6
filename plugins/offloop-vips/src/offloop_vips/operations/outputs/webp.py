"""WebP encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from ...headers.formats import FormatName
from ...picture import Image, Picture
from .encoder import Encoder
from .quality_goal import MaxBytes, QualityTarget, check_goal

__all__ = ["Webp"]


class Webp(Encoder, frozen=True):
    """Makes a WebP file, with or without alpha. Several pages become an animation."""

    format: ClassVar[FormatName] = "webp"
    typical_ratio: ClassVar[float] = 0.1
    can_hold_pages: ClassVar[bool] = True

    quality: Annotated[int, Meta(ge=1, le=100)] = 80
    """Encoding quality, 1 to 100."""

    alpha_quality: Annotated[int, Meta(ge=0, le=100)] = 100
    """Encoding quality of alpha, 0 to 100."""

    lossless: bool = False
    """Keep the value of every visible pixel. `quality` is then the compression effort."""

    near_lossless: bool = False
    """Lossless compression after small changes that help it. A higher `quality` makes smaller changes."""

    smart_subsample: bool = False
    """Subsample chroma with a slower method that keeps edges between colours sharp."""

    effort: Annotated[int, Meta(ge=0, le=6)] = 4
    """Encoding effort: more takes longer and makes a smaller file."""

    max_bytes: MaxBytes | None = None
    """Greatest length of the file in bytes. From `quality` on, the quality is reduced until the file fits. If even the lowest
    does not fit, the task fails with "output_too_large"."""

    target: QualityTarget | None = None
    """Least similarity to the picture that is encoded, as "ssim:0.98": the lowest quality that reaches it is taken, or 100."""

    def check(self) -> None:
        check_goal(self, default_quality=80)

    def prepare(self, picture: Picture) -> Picture:
        picture = picture.with_depth(8)
        return picture.with_image(picture.image.colourspace("srgb"))  # because the format has no grey

    def save(self, image: Image, target: object, keep: int = 0) -> None:
        image.webpsave_target(
            target,
            keep=keep,
            Q=self.quality,
            alpha_q=self.alpha_quality,
            lossless=self.lossless,
            near_lossless=self.near_lossless,
            smart_subsample=self.smart_subsample,
            effort=self.effort,
        )
