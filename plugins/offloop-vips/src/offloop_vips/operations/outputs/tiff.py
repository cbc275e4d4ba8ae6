"""TIFF encoder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from offloop.errors import InvalidTask

from ...headers.formats import FormatName
from ...picture import Image, Picture
from .encoder import Encoder

__all__ = ["Tiff"]


class Tiff(Encoder, frozen=True):
    """Makes a TIFF file of one or several pages. With the compression "jpeg" alpha is dropped; the others keep every sample."""

    format: ClassVar[FormatName] = "tiff"
    typical_ratio: ClassVar[float] = 0.5
    can_hold_pages: ClassVar[bool] = True
    needs_seek: ClassVar[bool] = True

    quality: Annotated[int, Meta(ge=1, le=100)] = 80
    """Encoding quality of the compressions "jpeg" and "webp", 1 to 100."""

    compression: Literal["none", "jpeg", "deflate", "packbits", "lzw", "webp"] = "jpeg"
    """How the samples are compressed. "jpeg" and "webp" lose detail."""

    predictor: Literal["none", "horizontal"] = "horizontal"
    """Whether "deflate" and "lzw" compress differences between neighbours, which makes photographs smaller."""

    pyramid: bool = False
    """Add the picture at half of its size, at a quarter, and so on. It needs `tile`."""

    tile: bool = False
    """Store squares instead of rows, so that a viewer can read a part."""

    tile_width: Annotated[int, Meta(ge=16, le=4096, multiple_of=16)] = 256
    """Width of a tile in pixels, a multiple of 16."""

    tile_height: Annotated[int, Meta(ge=16, le=4096, multiple_of=16)] = 256
    """Height of a tile in pixels, a multiple of 16."""

    bitdepth: Literal[8, 16] = 8
    """Bits of each sample. 16 keeps the precision of a source with more than 8."""

    def check(self) -> None:
        if self.bitdepth != 8 and self.compression in ("jpeg", "webp"):  # noqa: PLR2004 (bits)
            raise InvalidTask(f"Tiff(bitdepth=16, compression={self.compression!r}): this compression has samples of 8 bits")
        if not self.tile and (self.pyramid or (self.tile_width, self.tile_height) != (256, 256)):
            raise InvalidTask("Tiff: pyramid, tile_width and tile_height need tile=True")

    def prepare(self, picture: Picture) -> Picture:
        picture = picture.with_depth(self.bitdepth)
        if self.compression == "jpeg" and picture.image.hasalpha():
            return picture.with_image(picture.image[: picture.image.bands - 1])
        return picture

    def save(self, image: Image, target: object, keep: int = 0) -> None:
        tiles = {"tile_width": self.tile_width, "tile_height": self.tile_height} if self.tile else {}
        image.tiffsave_target(
            target,
            keep=keep,
            Q=self.quality,
            compression=self.compression,
            predictor=self.predictor,
            tile=self.tile,
            pyramid=self.pyramid,
            **tiles,
        )
