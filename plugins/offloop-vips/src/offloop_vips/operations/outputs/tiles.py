"""Tiles of a picture at many sizes, for viewers that zoom into it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ...colours import Colour, check_colour, rgba
from ...picture import Picture
from .encoder import Encoder
from .jpeg import Jpeg
from .png import Png
from .webp import Webp

__all__ = ["Tiles"]

_DEFAULT_ID = "https://example.com/iiif"


class Tiles(Operation, frozen=True):
    """Makes the tiles of a picture at its size, at half of it, at a quarter, and so on: a deep-zoom pyramid.

    With `Pool.stream` each file is an output, as soon as all are made: `info.name` is its path, and the description of the
    pyramid comes last. With all other calls the result is a ZIP archive of these files. All names are made of numbers, beside
    "tiles".
    """

    size: Annotated[int, Meta(ge=64, le=8192)] = 256
    """Width and height of a tile in pixels."""

    overlap: Annotated[int, Meta(ge=0, le=4096)] = 0
    """Pixels that a tile has in common with each of its neighbours."""

    layout: Literal["dz", "google", "zoomify", "iiif", "iiif3"] = "dz"
    """Names of the files, and their description: Deep Zoom (OpenSeadragon), Google Maps (and Leaflet), Zoomify, IIIF 2 or 3."""

    format: Literal["jpeg", "png", "webp"] = "jpeg"
    """Format of the tiles."""

    quality: Annotated[int, Meta(ge=1, le=100)] = 80
    """Encoding quality of JPEG and WebP, 1 to 100."""

    depth: Literal["onepixel", "onetile", "one"] | None = None
    """Smallest size: a single pixel, a single tile, or only the size of the picture; None: as the layout demands."""

    skip_blanks: Annotated[int, Meta(ge=0, le=255)] | None = None
    """Leave out tiles whose pixels differ from the background by at most this many levels; None: leave out none, and 5 for
    "google"."""

    background: Colour = "white"
    """Colour that fills up the tiles at the edges of "google", and that is behind transparent pixels of JPEG."""

    centre: bool = False
    """Put the picture into the middle of its tiles, in the layout "google"."""

    id: Annotated[str, Meta(pattern=r"^https?://[A-Za-z0-9._~:/%-]{1,500}$")] = _DEFAULT_ID
    """Address of the picture, which is in the description of the layouts "iiif" and "iiif3"."""

    def check(self) -> None:
        check_colour(self, "background")
        if self.overlap >= self.size:
            raise InvalidTask(f"Tiles(size={self.size}, overlap={self.overlap}): the overlap must be less than the size")
        if self.format == "png" and self.quality != 80:  # noqa: PLR2004 (the default)
            raise InvalidTask("Tiles(format='png'): quality has no effect")
        if self.centre and self.layout != "google":
            raise InvalidTask(f"Tiles(centre=True, layout={self.layout!r}): it has an effect in the layout 'google' only")
        if self.id != _DEFAULT_ID and not self.layout.startswith("iiif"):
            raise InvalidTask(f"Tiles(id=..., layout={self.layout!r}): it has an effect in the layouts 'iiif' and 'iiif3' only")
        if rgba(self.background).alpha != 1:
            raise InvalidTask(f"Tiles(background={self.background!r}): give an opaque colour")

    @property
    def encoder(self) -> Encoder:
        """The encoder of the tiles."""
        if self.format == "png":
            return Png()
        return Jpeg(quality=self.quality, background=self.background) if self.format == "jpeg" else Webp(quality=self.quality)

    def prepare(self, picture: Picture) -> Picture:
        """Returns the picture with samples that the tiles can hold."""
        return self.encoder.prepare(picture)

    def save(self, picture: Picture) -> bytes:
        """Returns a ZIP archive of a prepared picture, with files whose names begin with "tiles"."""
        quality = "" if self.format == "png" else f"[Q={self.quality}]"  # of a number only, because libvips parses it
        options: dict[str, Any] = {"background": picture.samples_of(rgba(self.background))}
        if self.depth is not None:
            options["depth"] = self.depth
        if self.skip_blanks is not None:
            options["skip_blanks"] = self.skip_blanks
        return picture.image.dzsave_buffer(
            imagename="tiles",
            suffix=f".{self.format}{quality}",
            layout=self.layout,
            tile_size=self.size,
            overlap=self.overlap,
            centre=self.centre,
            id=self.id,
            container="zip",
            keep=0,
            **options,
        )
