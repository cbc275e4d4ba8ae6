"""What is let in, and how it is read. Carried out in `offloop_vips.opening`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ..headers.formats import FORMAT_NAMES, FormatName

__all__ = ["Decode"]


class Decode(Operation, frozen=True):
    """Read an encoded source. The first step if it is there at all; without it a source is read with these defaults."""

    max_pixels: Annotated[int, Meta(ge=1)] = 50_000_000
    """The most pixels, all pages together, that the source may declare and that any later step may ask for."""

    formats: tuple[FormatName, ...] = FORMAT_NAMES
    """What the source may be, by its contents; names and declared types play no part."""

    fail_on: Literal["none", "truncated", "error", "warning"] = "warning"
    """The least fault in the file that fails the task. "none" reads what can be read of a broken file."""

    auto_orient: bool = True
    """Turn the picture the way its EXIF tag tells, before any other step sees it."""

    page: Annotated[int, Meta(ge=0)] = 0
    """The first page, or frame of an animation, to read."""

    pages: Annotated[int, Meta(ge=-1)] = 1
    """How many to read; -1 for all that follow. Several pages go through every step one by one, and out together."""

    max_pages: Annotated[int, Meta(ge=1)] = 10_000
    """The most pages or frames that the source may have, whichever of them are read: decoders look at all of them first."""

    def check(self) -> None:
        if self.pages == 0:
            raise InvalidTask("Decode(pages=0): expected the number of pages to read, or -1 for all")
        if not self.formats:
            raise InvalidTask("Decode(formats=()): nothing would be let in; name one format at least")
