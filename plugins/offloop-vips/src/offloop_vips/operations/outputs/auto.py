"""Automatic choice of the encoder, by the formats that a client accepts and by the picture."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from .avif import Avif
from .encoder import Encoder
from .gif import Gif
from .jpeg import Jpeg
from .png import Png
from .webp import Webp

__all__ = ["Auto"]

AutoFormat: TypeAlias = Literal["avif", "webp", "jpeg", "png", "gif"]

_MAX_TYPES = 50  # media types of a header that are examined; browsers send about ten
_ENCODERS: dict[AutoFormat, type[Encoder]] = {"avif": Avif, "webp": Webp, "jpeg": Jpeg, "png": Png, "gif": Gif}


class Auto(Operation, frozen=True):
    """Makes a file in the first of `formats` that the client accepts and that can hold the picture: its alpha, and its pages.

    A JPEG is for pictures without alpha, and a PNG for those with alpha. If none of the accepted formats can hold the picture,
    the result is a JPEG, PNG or GIF, which every browser shows. `result.info.format` tells which one it is. A cache must know
    that the response depends on the header: `Vary: Accept`.
    """

    accept: Annotated[str, Meta(max_length=4096)] = "*/*"
    """The value of the client's Accept header. Wildcards stand for JPEG, PNG and GIF only, because clients without AVIF or WebP
    send them, too."""

    formats: tuple[AutoFormat, ...] = ("avif", "webp", "jpeg", "png", "gif")
    """Formats that may be made, the best one first."""

    quality: Annotated[int, Meta(ge=1, le=100)] | None = None
    """Quality of JPEG, WebP and AVIF; None: the default of each."""

    def check(self) -> None:
        if not self.formats:
            raise InvalidTask("Auto(formats=()): name at least one format")

    def resolve(self, *, has_alpha: bool, pages: int) -> Encoder:
        """Returns the encoder for a picture."""
        accepted = _accepted(self.accept)
        suitable: list[AutoFormat] = [name for name in self.formats if _can_hold(name, has_alpha=has_alpha, pages=pages)]
        for name in suitable:
            if f"image/{name}" in accepted:
                return self._encoder(name)
        return self._encoder("gif" if pages > 1 else "png" if has_alpha else "jpeg")

    def _encoder(self, name: AutoFormat) -> Encoder:
        if self.quality is not None and name in ("avif", "webp", "jpeg"):
            return {"avif": Avif, "webp": Webp, "jpeg": Jpeg}[name](quality=self.quality)
        return _ENCODERS[name]()


def _can_hold(name: AutoFormat, *, has_alpha: bool, pages: int) -> bool:
    if pages > 1:
        return name in ("webp", "gif")
    if name == "gif":
        return False
    return name in ("avif", "webp") or name == ("png" if has_alpha else "jpeg")


def _accepted(header: str) -> set[str]:
    """Returns the media types that an Accept header names and does not refuse by "q=0"."""
    accepted = {"image/jpeg", "image/png", "image/gif"}
    for part in header.lower().split(",")[:_MAX_TYPES]:
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        if any(parameter.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for parameter in parameters):
            accepted.discard(media_type)
        else:
            accepted.add(media_type)
    return accepted
