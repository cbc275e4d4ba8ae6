"""Limits on a source and on the results of steps, with one error each.

The server checks what the header of a source declares before it copies a byte of the source, and the worker checks the same
again, because a header proves nothing.
"""

from __future__ import annotations

from offloop.errors import TaskFailed

from .geometry import Size
from .headers.formats import FormatName

__all__ = [
    "check_bands",
    "check_format",
    "check_metadata",
    "check_nbytes",
    "check_output_nbytes",
    "check_output_side",
    "check_page_count",
    "check_pixels",
]


def check_nbytes(nbytes: int, max_bytes: int | None) -> None:
    """Checks the length of a source.

    Raises:
        TaskFailed: with the code "source_too_large".
    """
    if max_bytes is not None and nbytes > max_bytes:
        raise TaskFailed("source_too_large", f"the source has {nbytes:,} bytes, the limit is {max_bytes:,} (Decode.max_bytes)")


def check_format(source: FormatName, formats: tuple[FormatName, ...]) -> None:
    """Checks the format of a source.

    Raises:
        TaskFailed: with the code "unsupported_format".
    """
    if source not in formats:
        allowed = ", ".join(formats)
        raise TaskFailed("unsupported_format", f"the source is {source}, but only {allowed} are allowed (Decode.formats)")


def check_pixels(size: Size, pages: int, max_pixels: int) -> None:
    """Checks the number of pixels of a picture, all pages together.

    Raises:
        TaskFailed: with the code "too_many_pixels".
    """
    total = size.pixels * pages
    if total > max_pixels:
        page_factor = f" x {pages} pages" if pages > 1 else ""
        raise TaskFailed(
            "too_many_pixels",
            f"{size.width} x {size.height}{page_factor} = {total:,} pixels, the limit is {max_pixels:,} (Decode.max_pixels)",
        )


def check_page_count(pages: int, source: FormatName, max_pages: int) -> None:
    """Checks the total number of pages or frames of a source, whichever of them are read.

    Raises:
        TaskFailed: with the code "too_many_pages".
    """
    if pages > max_pages:
        raise TaskFailed(
            "too_many_pages", f"the {source} source has more than {max_pages:,} pages, the limit (Decode.max_pages)"
        )


def check_bands(bands: int, max_bands: int) -> None:
    """Checks the number of bands of a source.

    Raises:
        TaskFailed: with the code "too_many_bands".
    """
    if bands > max_bands:
        raise TaskFailed("too_many_bands", f"the source has {bands} bands, the limit is {max_bands} (Decode.max_bands)")


def check_metadata(nbytes: int, max_nbytes: int) -> None:
    """Checks the metadata of a source: EXIF, XMP, colour profiles, comments and texts.

    Raises:
        TaskFailed: with the code "too_much_metadata".
    """
    if nbytes > max_nbytes:
        text = f"the source has {nbytes:,} bytes of metadata, the limit is {max_nbytes:,} (Decode.max_metadata_bytes)"
        raise TaskFailed("too_much_metadata", text)


def check_output_side(size: Size, max_side: int | None) -> None:
    """Checks width and height of one page of the result.

    Raises:
        TaskFailed: with the code "output_too_wide".
    """
    if max_side is not None and max(size) > max_side:
        text = f"the result has {size.width} x {size.height} pixels, the limit is {max_side:,} a side (Decode.max_output_side)"
        raise TaskFailed("output_too_wide", text)


def check_output_nbytes(nbytes: int, max_nbytes: int | None) -> None:
    """Checks the length of a result, or of what is ready of it.

    Raises:
        TaskFailed: with the code "output_too_large".
    """
    if max_nbytes is not None and nbytes > max_nbytes:
        text = f"the result has {nbytes:,} bytes or more, the limit is {max_nbytes:,} (Decode.max_output_bytes)"
        raise TaskFailed("output_too_large", text)
