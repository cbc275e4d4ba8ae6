"""Metadata of the file: what is kept of the source, and what is set."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from offloop.errors import InvalidTask

from ...picture import Picture, with_field
from ..step import Shape, Step, StepCost

__all__ = ["Metadata"]

Kind: TypeAlias = Literal["exif", "xmp", "iptc"]
Tag: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Z][A-Za-z0-9]{1,40}$")]
Value: TypeAlias = Annotated[str, Meta(min_length=1, max_length=1000)]

_THUMBNAIL = "jpeg-thumbnail-data"


class Metadata(Step, frozen=True):
    """Puts metadata into the file that the encoder makes. Without this step a file has none.

    The orientation and the size in EXIF are those of the result, and a thumbnail in EXIF is dropped, because it would show the
    picture before the other steps. EXIF can have the place of a photograph and the owner of a camera.
    """

    keep: tuple[Kind, ...] = ()
    """Kinds of metadata that are kept of the source, as far as the encoder writes them: no EXIF in TIFF, and nothing in GIF."""

    exif: dict[Tag, Value] = msgspec.field(default_factory=dict[str, str])
    """Values of tags of the main directory of EXIF: {"Copyright": "me", "Artist": "you"}."""

    xmp: Annotated[str, Meta(min_length=1, max_length=60_000)] | None = None
    """XMP document, which replaces that of the source."""

    def check(self) -> None:
        if not self.keep and not self.exif and self.xmp is None:
            raise InvalidTask("Metadata(): say what to keep or to set; without this step a file has no metadata")
        for tag, value in self.exif.items():
            if not value.isprintable():
                raise InvalidTask(f"Metadata(exif={{{tag!r}: {value!r}}}): it has control characters")

    def apply(self, picture: Picture) -> Picture:
        image = picture.image.copy()
        if "exif" not in self.keep:
            for name in [name for name in image.get_fields() if name.startswith("exif-")]:
                image.remove(name)
        if image.get_typeof(_THUMBNAIL):
            image.remove(_THUMBNAIL)
        for tag, value in self.exif.items():
            nbytes = len(value.encode()) + 1
            # libvips drops the last pair of parentheses, in which it has type and length when it reads a tag
            image = with_field(image, f"exif-ifd0-{tag}", f"{value} ({tag}, ASCII, {nbytes} components, {nbytes} bytes)")
        if self.xmp is not None:
            image = with_field(image, "xmp-data", self.xmp.encode())
        kinds = {*self.keep, *(["exif"] if self.exif else []), *(["xmp"] if self.xmp is not None else [])}
        return replace(picture, image=image, kept_metadata=tuple(sorted(kinds)))

    def cost(self, shape: Shape) -> StepCost:  # noqa: ARG002
        return StepCost(work_ns=0.0, rows=0, fixed_nbytes=1_000_000, alpha_fixed_nbytes=0)
