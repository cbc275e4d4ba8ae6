"""GIF encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from ...headers.formats import FormatName
from ...picture import Image, Picture
from .encoder import Encoder

__all__ = ["Gif"]


class Gif(Encoder, frozen=True):
    """Makes a GIF file of at most 256 colours for each frame. Several pages become an animation. Alpha is full or none."""

    format: ClassVar[FormatName] = "gif"
    typical_ratio: ClassVar[float] = 0.3
    can_hold_pages: ClassVar[bool] = True
    can_hold_profile: ClassVar[bool] = False

    reuse: bool = True
    """Use the palette of the source, if it is a GIF, as long as its colours suit."""

    progressive: bool = False
    """Interlace the file, so that a viewer can show a coarse picture first."""

    colours: Annotated[int, Meta(ge=2, le=256)] = 256
    """Maximum number of palette entries, rounded up to a power of two."""

    effort: Annotated[int, Meta(ge=1, le=10)] = 7
    """Effort of the palette search, 1 to 10."""

    dither: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """Fraction of the palette error that is passed on to neighbouring pixels, 0 to 1."""

    inter_frame_max_error: Annotated[float, Meta(ge=0, le=32)] = 0.0
    """Greatest difference between two frames, in levels of 255, at which a pixel counts as unchanged."""

    inter_palette_max_error: Annotated[float, Meta(ge=0, le=256)] = 3.0
    """Greatest error of a palette that is used again for the next frame."""

    keep_duplicate_frames: bool = False
    """Keep frames that are equal to the one before. Otherwise the one before lasts longer."""

    def prepare(self, picture: Picture) -> Picture:
        return picture.with_depth(8)

    def save(self, image: Image, target: object, keep: int = 0) -> None:
        image.gifsave_target(
            target,
            keep=keep,
            reuse=self.reuse,
            interlace=self.progressive,
            bitdepth=(self.colours - 1).bit_length(),
            effort=self.effort,
            dither=self.dither,
            interframe_maxerror=self.inter_frame_max_error,
            interpalette_maxerror=self.inter_palette_max_error,
            keep_duplicate_frames=self.keep_duplicate_frames,
        )
