"""Limits on the declared pixels, bands and pages of a source, checked in the worker before a decoder is called.

A decoder spends memory and time on a declared size before it reports the size: a canvas of 16,383 x 16,383 pixels for a WebP
of 46 KB, or seconds for a list of 50,000 frames of which one is needed. So the header parser reads the source first, and the
pages are counted up to the limit.
"""

from __future__ import annotations

from ..geometry import Size
from ..headers.formats import FormatName
from ..headers.metadata_size import count_inflated, count_metadata
from ..headers.page_count import count_pages
from ..headers.parser import ParsedHeader, UnreadableHeader, parse_header
from ..limits import check_bands, check_metadata, check_page_count, check_pixels
from ..operations import Decode

__all__ = ["check_source"]

_HEADER_NBYTES = 256 * 1024  # given to the parser; as many as in the server
_MAX_PARTS = 100_000  # segments or chunks in which metadata is looked for; a PNG of a gigabyte has as many


def check_source(data: memoryview, source: FormatName, decode: Decode) -> ParsedHeader:
    """Checks the declared pixels, bands, metadata and pages of a source against `decode`, and returns its header.

    An unreadable header is left to the decoder, and has unknown fields.

    Raises:
        TaskFailed: "too_many_pixels", "too_many_bands", "too_much_metadata" or "too_many_pages".
    """
    try:
        header = parse_header(source, bytes(data[:_HEADER_NBYTES]), whole=data.nbytes <= _HEADER_NBYTES)
    except UnreadableHeader:
        header = ParsedHeader()
    else:
        check_pixels(Size(*header.coded_size or header.size), 1, decode.max_pixels)
        check_bands(header.bands or 0, decode.max_bands)
    _check_metadata(source, data, decode.max_metadata_bytes)
    check_page_count(count_pages(source, data, decode.max_pages), source, decode.max_pages)
    return header


def _check_metadata(source: FormatName, data: memoryview, max_nbytes: int) -> None:
    stored = min(count_metadata(source, data, _MAX_PARTS), data.nbytes)  # a damaged file declares more than it has
    check_metadata(stored, max_nbytes)
    if source == "png":  # a decoder would inflate it
        check_metadata(count_inflated(data, _MAX_PARTS, max_nbytes), max_nbytes)
