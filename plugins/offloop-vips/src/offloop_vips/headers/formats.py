"""The six file formats that are let in, and how their first bytes give them away.

A source is recognised here, by us, and then only that format's decoder is called. Left to itself libvips would ask every
loader that it was built with, and each of those is a parser that a hostile file could choose.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, cast, get_args

__all__ = ["FORMATS", "FORMAT_NAMES", "SNIFF_NBYTES", "Format", "FormatName", "sniff"]

FormatName: TypeAlias = Literal["jpeg", "png", "webp", "avif", "gif", "tiff"]
FORMAT_NAMES = cast("tuple[FormatName, ...]", get_args(FormatName))

SNIFF_NBYTES = 64  # the longest signature that we look for, a list of brands, ends here in every AVIF we have met


class Format(NamedTuple):
    """What has to be known of a file format."""

    media_type: str
    loader: str  # the libvips operation that decodes it
    loader_class: str  # that operation's class, by which it is unblocked
    error_domains: tuple[str, ...]  # how the lines begin in which its decoder complains
    max_side: int  # the most pixels its own fields can express for one side of one page
    holds_pages: bool  # whether one file can hold several pages


FORMATS: dict[FormatName, Format] = {
    "jpeg": Format("image/jpeg", "jpegload_source", "VipsForeignLoadJpeg", ("VipsJpeg", "jpegload"), 65_535, False),
    "png": Format("image/png", "pngload_source", "VipsForeignLoadPng", ("vipspng", "pngload", "libpng"), 2**31 - 1, False),
    "webp": Format("image/webp", "webpload_source", "VipsForeignLoadWebp", ("webp", "webpload"), 16_383, True),
    "avif": Format("image/avif", "heifload_source", "VipsForeignLoadHeif", ("heif", "heifload"), 16_384, True),
    "gif": Format("image/gif", "gifload_source", "VipsForeignLoadNsgif", ("gifload",), 65_535, True),
    "tiff": Format("image/tiff", "tiffload_source", "VipsForeignLoadTiff", ("tiff", "tiff2vips", "tiffload"), 2**31 - 1, True),
}

_SIGNATURES: tuple[tuple[bytes, FormatName], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
)


def sniff(start: bytes) -> FormatName | None:
    """The format whose signature a source's first `SNIFF_NBYTES` bytes carry, or None. It proves nothing about the rest."""
    for signature, name in _SIGNATURES:
        if start.startswith(signature):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    if start[4:8] == b"ftyp" and _brands(start) & {b"avif", b"avis"}:
        return "avif"
    return None


def _brands(start: bytes) -> set[bytes]:
    """HEIC and AVIF share a container; only the brands, first the major then the compatible ones, tell them apart."""
    end = min(int.from_bytes(start[:4], "big"), len(start), SNIFF_NBYTES)
    return {start[8:12]} | {start[at : at + 4] for at in range(16, end - 3, 4)}
