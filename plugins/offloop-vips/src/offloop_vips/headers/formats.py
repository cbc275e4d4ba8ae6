"""The six accepted file formats, and their detection by signature.

The plugin detects the format itself and then calls only that format's decoder. Otherwise libvips would ask every loader that
it was built with, and a hostile file could choose any of these parsers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, cast, get_args

__all__ = ["FORMATS", "FORMAT_NAMES", "FORMAT_OF", "SNIFF_NBYTES", "Format", "FormatName", "sniff"]

FormatName: TypeAlias = Literal["jpeg", "png", "webp", "avif", "gif", "tiff"]
FORMAT_NAMES = cast("tuple[FormatName, ...]", get_args(FormatName))

SNIFF_NBYTES = 64  # bytes; the longest signature is AVIF's list of brands, which ended before that in every AVIF seen


class Format(NamedTuple):
    """Facts about a file format."""

    media_type: str
    loader: str  # name of the libvips operation that decodes the format
    loader_class: str  # class name of the loader, for `operation_block_set`
    error_domains: tuple[str, ...]  # prefixes of the decoder's error lines
    max_side: int  # largest width or height of one page, in pixels, that the format's fields can express


FORMATS: dict[FormatName, Format] = {
    "jpeg": Format("image/jpeg", "jpegload_source", "VipsForeignLoadJpeg", ("VipsJpeg", "jpegload"), 65_535),
    "png": Format("image/png", "pngload_source", "VipsForeignLoadPng", ("vipspng", "pngload", "libpng"), 2**31 - 1),
    "webp": Format("image/webp", "webpload_source", "VipsForeignLoadWebp", ("webp", "webpload"), 16_383),
    "avif": Format("image/avif", "heifload_source", "VipsForeignLoadHeif", ("heif", "heifload"), 16_384),
    "gif": Format("image/gif", "gifload_source", "VipsForeignLoadNsgif", ("gifload",), 65_535),
    "tiff": Format("image/tiff", "tiffload_source", "VipsForeignLoadTiff", ("tiff", "tiff2vips", "tiffload"), 2**31 - 1),
}

FORMAT_OF: dict[str, FormatName] = {file_format.media_type: name for name, file_format in FORMATS.items()}
"""Media type -> format."""

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
    """Returns the format whose signature is in a source's first `SNIFF_NBYTES` bytes, or None. The rest is not checked."""
    for signature, name in _SIGNATURES:
        if start.startswith(signature):
            return name
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    if start[4:8] == b"ftyp" and _brands(start) & {b"avif", b"avis"}:
        return "avif"
    return None


def _brands(start: bytes) -> set[bytes]:
    """Returns the major and the compatible brands of an `ftyp` box; HEIC and AVIF files differ only in their brands."""
    end = min(int.from_bytes(start[:4], "big"), len(start), SNIFF_NBYTES)
    return {start[8:12]} | {start[at : at + 4] for at in range(16, end - 3, 4)}
