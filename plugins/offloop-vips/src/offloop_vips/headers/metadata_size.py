"""Number of bytes of metadata in a source, counted without a decoder: EXIF, XMP, colour profiles, comments and texts.

A GIF has none that its decoder keeps, and those of an AVIF lie among its pixels, so that only its decoder finds them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from struct import error, unpack_from

from .formats import FormatName
from .tiff_tags import MAX_TAGS, is_bigtiff

__all__ = ["count_inflated", "count_metadata"]

_SCAN, _END_OF_JPEG, _COMMENT = 0xDA, 0xD9, 0xFE
_APPLICATION = range(0xE0, 0xF0)
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_ANCILLARY = 0x20  # bit of the first letter of a PNG chunk's kind
_APNG_FRAME = b"fdAT"  # ancillary, but pixels
_MAX_NAMES_NBYTES = 1000  # of a PNG chunk before its compressed data: a keyword, a language, a translated keyword
_PIECE_NBYTES = 65_536  # of compressed data that are inflated at a time
_WEBP_METADATA = (b"EXIF", b"XMP ", b"ICCP")
_TIFF_METADATA = (270, 305, 700, 33723, 34377, 34675)  # description, software, XMP, IPTC, Photoshop, profile
_TIFF_ITEM_NBYTES: dict[int, int] = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # by type; others have one byte


def count_metadata(source: FormatName, data: bytes | memoryview, max_parts: int) -> int:
    """Returns the bytes of metadata that the first `max_parts` segments, chunks or tags declare, as they are stored.

    `data` may be the start of a source. A damaged source may declare more bytes than it has.
    """
    try:
        match source:
            case "jpeg":
                return _count_jpeg(data, max_parts)
            case "png":
                return sum(nbytes for _, _, nbytes in _png_metadata(data, max_parts))
            case "webp":
                return _count_webp(data, max_parts)
            case "tiff":
                return _count_tiff(data, max_parts)
            case "avif" | "gif":
                return 0
    except (error, LookupError):
        return 0


def count_inflated(data: memoryview, max_parts: int, max_nbytes: int) -> int:
    """Returns the bytes that the compressed metadata of a PNG has inflated, up to some more than `max_nbytes`."""
    total = 0
    for kind, start, nbytes in _png_metadata(data, max_parts):
        if total > max_nbytes:
            break
        total += _inflated_nbytes(kind, data[start : start + nbytes], max_nbytes - total)
    return total


def _count_jpeg(data: bytes | memoryview, max_parts: int) -> int:
    total, at = 0, 2
    for _ in range(max_parts):
        if at + 4 > len(data) or data[at] != 0xFF:  # noqa: PLR2004 (the first byte of a marker)
            break
        marker = data[at + 1]
        if marker in (_SCAN, _END_OF_JPEG):
            break
        if marker == 0xFF or marker in _WITHOUT_LENGTH:  # noqa: PLR2004 (a fill byte)
            at += 1 if marker == 0xFF else 2  # noqa: PLR2004
            continue
        (nbytes,) = unpack_from(">H", data, at + 2)
        if marker in _APPLICATION or marker == _COMMENT:
            total += nbytes
        at += 2 + nbytes
    return total


def _png_metadata(data: bytes | memoryview, max_parts: int) -> Iterator[tuple[bytes, int, int]]:
    """Iterates over kind, offset and length of the chunks that are no pixels."""
    at = 8
    for _ in range(max_parts):
        if at + 8 > len(data):
            break
        nbytes, kind = unpack_from(">I4s", data, at)
        if kind[0] & _ANCILLARY and kind != _APNG_FRAME:
            yield kind, at + 8, nbytes
        at += 12 + nbytes


def _inflated_nbytes(kind: bytes, chunk: memoryview, max_nbytes: int) -> int:
    """Returns the bytes that a chunk has inflated, up to one more than `max_nbytes`; 0 if it is not compressed, or damaged."""
    names = bytes(chunk[:_MAX_NAMES_NBYTES])
    start = names.find(0) + 2  # after the method of compression
    if kind == b"iTXt" and names[start - 1 : start] == b"\1":
        start = names.find(0, names.find(0, start + 1) + 1) + 1
    elif kind not in (b"zTXt", b"iCCP"):
        return 0
    inflater, total = zlib.decompressobj(), 0
    try:
        for at in range(start, len(chunk), _PIECE_NBYTES):
            total += len(inflater.decompress(chunk[at : at + _PIECE_NBYTES], max_nbytes - total + 1))
            if total > max_nbytes or inflater.eof:
                break
    except zlib.error:
        return 0
    return total


def _count_webp(data: bytes | memoryview, max_parts: int) -> int:
    total, at = 0, 12
    for _ in range(max_parts):
        if at + 8 > len(data):
            break
        kind, nbytes = unpack_from("<4sI", data, at)
        if kind in _WEBP_METADATA:
            total += nbytes
        at += 8 + nbytes + nbytes % 2
    return total


def _count_tiff(data: bytes | memoryview, max_parts: int) -> int:
    order = "<" if bytes(data[:1]) == b"I" else ">"
    is_big = is_bigtiff(data, order)
    offset_code, count_nbytes, entry_nbytes = ("Q", 8, 20) if is_big else ("I", 2, 12)
    at = unpack_from(order + offset_code, data, 8 if is_big else 4)[0]
    total = 0
    entries: int = unpack_from(order + ("Q" if is_big else "H"), data, at)[0]
    for number in range(min(entries, max_parts, MAX_TAGS)):
        tag, kind, length = unpack_from(order + "HH" + offset_code, data, at + count_nbytes + entry_nbytes * number)
        if tag in _TIFF_METADATA:
            total += length * _TIFF_ITEM_NBYTES.get(kind, 1)
    return total
