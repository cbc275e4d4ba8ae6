"""Decode parameters: accepted formats, limits and pages. Applied in `offloop_vips.processor.loading`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Operation

from ..headers.formats import FORMAT_NAMES, FormatName

__all__ = ["Decode"]


class Decode(Operation, frozen=True):
    """Reads an encoded source. It can only be the first step; without it a source is read with these defaults."""

    max_pixels: Annotated[int, Meta(ge=1)] = 210_000_000
    """Maximum number of pixels, all pages together, of the source and of the result of each step. The default holds the largest
    pictures of telephones on sale, 16,384 x 12,288, which is 201 megapixels."""

    formats: tuple[FormatName, ...] = FORMAT_NAMES
    """Accepted formats of the source. The format is detected by content; file names and declared types are ignored."""

    fail_on: Literal["none", "truncated", "error", "warning"] = "warning"
    """Lowest severity of a decoding problem that fails the task. "none" reads the readable part of a damaged file."""

    hdr: Literal["tone_map", "refuse"] = "tone_map"
    """What to do with PQ and HLG (HDR photographs): compress their light to that of sRGB, or fail with "unsupported_format"."""

    colours: Literal["auto", "srgb", "p3", "keep"] = "auto"
    """Colour space of the picture between the steps. "srgb" and "p3" (Display P3) convert and clip to it. "keep" leaves the
    colours of an RGB file with a profile as they are, and the result has that profile, until a step combines them with others.
    "auto" is P3 for a pipeline with `IccProfile("p3")`, and otherwise sRGB."""

    auto_orient: bool = True
    """Apply the EXIF orientation before the other steps."""

    page: Annotated[int, Meta(ge=0)] = 0
    """Index, from 0, of the first page or animation frame to read."""

    pages: Annotated[int, Meta(ge=-1)] = 1
    """Number of pages to read; -1: all from `page` on. Each step is applied to each page, and one result holds all pages."""

    max_pages: Annotated[int, Meta(ge=1)] = 10_000
    """Maximum total number of pages or frames of the source, because decoders examine all of them, even to read one."""

    max_bytes: Annotated[int, Meta(ge=1)] | None = None
    """Maximum length of the source in bytes; None: the memory of the pool is the limit."""

    max_bands: Annotated[int, Meta(ge=1)] = 16
    """Maximum number of bands that the header of the source declares: colours, alpha and spot colours."""

    max_metadata_bytes: Annotated[int, Meta(ge=0)] = 16_000_000
    """Maximum bytes of metadata of the source, as stored: EXIF, XMP, colour profiles, comments, texts. Telephones write up to a
    few megabytes, for the depth of a portrait."""

    max_output_side: Annotated[int, Meta(ge=1)] | None = None
    """Maximum width and height of one page of the result, in pixels; None: `max_pixels` and the format are the limits."""

    max_output_bytes: Annotated[int, Meta(ge=1)] | None = None
    """Maximum length of the result in bytes, of a file or of samples; None: the memory of the pool is the limit. A longer one
    fails the task; `max_bytes` of an encoder reduces the quality instead."""

    def check(self) -> None:
        if self.pages == 0:
            raise InvalidTask("Decode(pages=0): expected the number of pages to read, or -1 for all")
        if not self.formats:
            raise InvalidTask("Decode(formats=()): no source would be accepted; name at least one format")
