"""Header parser: reads size, orientation, sampling, passes and pages from the first bytes of a source.

The parser is pure Python and runs in the server, on the event loop, on untrusted bytes. Its work is bounded: each loop has a
constant as its maximum number of steps, and a step takes less than a microsecond; a usual file has a handful of chunks. If a
limit or the given bytes end before the header does, its size is known where it stands at the start, as in a PNG, so that a
huge picture is refused, and the other fields are unknown; where the size has not been found, the header is unknown. The parser
copies a few bytes at a time and decompresses nothing. Each format has one reader and no library is used, because a library's
work is unbounded, and two readers can disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error, unpack_from
from typing import NamedTuple

from offloop.operation import Header

from .formats import FormatName
from .iso_boxes import Box, has_reference, primary_properties, walk_boxes
from .iso_transformations import apply_transformations
from .signalled_colour import SignalledColour
from .tiff_tags import HEIGHT, MAX_EXIF_NBYTES, ORIENTATION, PROFILE, WIDTH, is_bigtiff, read_orientation, read_tags

__all__ = ["MAX_CHUNKS", "ParsedHeader", "UnreadableHeader", "VipsHeader", "parse_header"]

MAX_MARKERS = 300  # of a JPEG before its pixels; a colour profile and XMP may take 255 each, and no file seen had so many
MAX_CHUNKS = 300  # of a PNG or WebP; an animated WebP has one for each frame
MAX_BLOCKS = 1500  # of a GIF; 256 KiB hold 1,028 full blocks
MAX_PAGES = 300  # of a TIFF

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEVERAL_PASSES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN = 0xDA
_PNG_BANDS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_GIF_FRAME, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9
# Screens that some programs wrote into every GIF. libnsgif ignores them, and larger ones, in favour of the first frame.
_GIF_SCREENS = frozenset({(640, 480), (640, 512), (800, 600), (1024, 768), (1280, 1024), (1600, 1200)})
_MAX_GIF_SCREEN = 2048
_APP1, _APP2 = 0xE1, 0xE2
_WEBP_EXIF_FLAG, _WEBP_PROFILE_FLAG = 0x08, 0x20
_TIFF_SAMPLES, _TIFF_BITS, _TIFF_EXTRA_SAMPLES = 277, 258, 338


class VipsHeader(Header, frozen=True, kw_only=True):
    """Header of an encoded source, with fields that only this plugin uses."""

    samples_per_pixel: float | None = None  # coded samples; 1.5 with 4:2:0 chroma subsampling
    lossless: bool | None = None  # whether a WebP is lossless
    page_nbytes: int | None = None  # mean encoded bytes of one page; set where `pages` is unknown, as not all pages were read
    coded_size: tuple[int, int] | None = None  # width and height that are decoded, where the file crops them
    metadata_nbytes: int = 0  # bytes of metadata that the first bytes declare
    has_alpha: bool | None = None  # whether the decoded picture has alpha
    has_profile: bool | None = None  # whether the file has an ICC profile
    oriented_width: int = 0  # width in pixels after the orientation is applied, as a result without a resize has it
    oriented_height: int = 0  # height in pixels after the orientation is applied


class ParsedHeader(NamedTuple):
    """Fields that the parser reads; None: unknown."""

    bands: int | None = None  # bands after decoding, a palette resolved
    bits: int | None = None  # bits of one sample
    pages: int | None = None  # number of pages or frames
    progressive: bool | None = None  # whether the image is coded in several passes
    samples_per_pixel: float | None = None  # coded samples
    lossless: bool | None = None  # whether a WebP is lossless
    page_nbytes: int | None = None  # mean encoded bytes of one page
    size: tuple[int, int] = (0, 0)  # width and height in pixels, as stored
    orientation: int | None = None  # EXIF orientation, 1 to 8
    coded_size: tuple[int, int] | None = None  # width and height that are decoded, where the file crops them
    colour: SignalledColour | None = None  # colour space by code points, of a PNG or AVIF
    is_premultiplied: bool = False  # whether the colours of an AVIF are multiplied by its alpha
    first_extra_sample: int | None = None  # meaning of the first band after the colours of a TIFF; 1 and 2: alpha
    has_profile: bool = False  # whether the file has an ICC profile


class UnreadableHeader(Exception):
    """The header is broken, longer than the given bytes, or exceeds a limit of the parser."""


def parse_header(source: FormatName, data: bytes, *, whole: bool) -> ParsedHeader:
    """Parses the header of a source, from its first bytes. `whole` tells that `data` is the complete source.

    Raises:
        UnreadableHeader: the header is broken, or `data` or a limit ends before its size.
    """
    try:
        header = _PARSERS[source](data, whole)
    except (LookupError, ValueError, ArithmeticError, StopIteration, error) as cause:
        raise UnreadableHeader from cause
    if min(header.size) < 1:
        raise UnreadableHeader
    return header


def _parse_jpeg(data: bytes, whole: bool) -> ParsedHeader:
    frame: tuple[int, int, int, float] | None = None
    size, exif, has_profile = (0, 0), b"", False
    at = 2
    for _ in range(MAX_MARKERS):
        if at + 4 > len(data) and not whole:
            break
        at = data.index(b"\xff", at) + 1
        marker = data[at]
        if marker in (0, 0xFF):
            continue
        at += 1
        if marker in _STANDALONE:
            continue
        if marker == _SCAN and frame is not None:
            passes = frame[0] in _SEVERAL_PASSES or data[at + 2] < frame[2]  # one scan for each band: some scanners write that
            header = ParsedHeader(frame[2], frame[1], 1, passes, frame[3], size=size, has_profile=has_profile)
            return header._replace(orientation=read_orientation(exif))
        if marker in _FRAMES:
            if frame is not None:  # decoders reject a second frame, too
                raise UnreadableHeader
            height, width = unpack_from(">HH", data, at + 3)
            size = (width, height)
            frame = (marker, data[at + 2], data[at + 7], _jpeg_samples_per_pixel(data, at + 8, data[at + 7]))
        nbytes = max(unpack_from(">H", data, at)[0], 2)
        if marker == _APP1 and data[at + 2 : at + 8] == b"Exif\0\0":  # the last EXIF segment counts; only that one is parsed
            exif = data[at + 2 : at + nbytes]
        has_profile = has_profile or (marker == _APP2 and data[at + 2 : at + 14] == b"ICC_PROFILE\0")
        at += nbytes
    if frame is None:
        raise UnreadableHeader
    passes = frame[0] in _SEVERAL_PASSES or None  # unknown, because the scan was not reached
    return ParsedHeader(frame[2], frame[1], 1, passes, frame[3], size=size, has_profile=has_profile)


def _jpeg_samples_per_pixel(data: bytes, at: int, bands: int) -> float:
    """Returns the coded samples per pixel, from the sampling factors of a JPEG's bands."""
    factors = [(data[at + 3 * band + 1] >> 4, data[at + 3 * band + 1] & 15) for band in range(min(bands, 4))]
    max_samples = max(horizontal for horizontal, _ in factors) * max(vertical for _, vertical in factors)
    return sum(horizontal * vertical for horizontal, vertical in factors) / max_samples


def _parse_png(data: bytes, whole: bool) -> ParsedHeader:
    if data[12:16] != b"IHDR":
        raise UnreadableHeader
    size = unpack_from(">II", data, 16)
    bits, colour, interlace = data[24], data[25], data[28]
    bands, pages, exif, signalled, has_profile, at = _PNG_BANDS[colour], 1, b"", None, False, 8
    is_complete = False
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data) and not whole:
            break
        nbytes, kind = unpack_from(">I4s", data, at)
        if kind == b"tRNS" and bands in (1, 3):
            bands += 1
        if kind == b"acTL":
            pages = max(unpack_from(">I", data, at + 8)[0], 1)
        if kind == b"eXIf" and not exif:  # the format allows one; only the first is parsed
            exif = data[at + 8 : at + 8 + min(nbytes, MAX_EXIF_NBYTES)]
        if kind == b"cICP" and nbytes == 4 and signalled is None:  # noqa: PLR2004 (primaries, transfer, matrix, range)
            signalled = SignalledColour(data[at + 8], data[at + 9])
        has_profile = has_profile or kind == b"iCCP"
        if kind == b"IDAT":
            is_complete = True
            break
        at += 12 + nbytes
    header = ParsedHeader(None, max(bits, 8), None, interlace != 0, size=(size[0], size[1]), colour=signalled)
    header = header._replace(orientation=read_orientation(exif), has_profile=has_profile)
    return header._replace(bands=bands, pages=pages) if is_complete else header


def _parse_webp(data: bytes, whole: bool) -> ParsedHeader:
    kind = data[12:16]
    if kind == b"VP8L":
        (bits,) = unpack_from("<I", data, 21)
        size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        return ParsedHeader(4 if data[24] & 0x10 else 3, 8, 1, False, 4, True, size=size)
    if kind == b"VP8 ":
        width, height = unpack_from("<HH", data, 26)
        size = (width & 0x3FFF, height & 0x3FFF)  # the two high bits are a display scale
        return ParsedHeader(3, 8, 1, False, 1.5, False, size=size)
    if kind != b"VP8X":
        raise UnreadableHeader
    flags, bands = data[20], 4 if data[20] & 0x10 else 3
    size = (1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    common = ParsedHeader(bands, 8, size=size, has_profile=bool(flags & _WEBP_PROFILE_FLAG))
    if not flags & 0x02:  # not animated
        lossless, orientation = _parse_still_webp(data, has_exif=bool(flags & _WEBP_EXIF_FLAG))
        return common._replace(pages=1, progressive=False, samples_per_pixel=1.5, lossless=lossless, orientation=orientation)
    frames, lossless, at = 0, False, 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        kind, nbytes = unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            frames += 1
            lossless = lossless or data[at + 24 : at + 28] == b"VP8L"
        at += 8 + nbytes + nbytes % 2
    return _with_frames(common._replace(lossless=lossless), frames, at, is_complete=whole and at >= len(data))


def _parse_still_webp(data: bytes, *, has_exif: bool) -> tuple[bool | None, int | None]:
    """Returns whether a still WebP with an extended header is lossless, and its orientation. None: not in the given bytes."""
    lossless: bool | None = None
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return lossless, None
        kind, nbytes = unpack_from("<4sI", data, at)
        if kind in (b"ALPH", b"VP8 ", b"VP8L") and lossless is None:  # only a lossy frame has a separate alpha chunk
            lossless = kind == b"VP8L"
        if kind == b"EXIF" and has_exif:
            return lossless, read_orientation(data[at + 8 : at + 8 + min(nbytes, MAX_EXIF_NBYTES)])
        if lossless is not None and not has_exif:
            return lossless, None
        at += 8 + nbytes + nbytes % 2
    return lossless, None


def _parse_gif(data: bytes, whole: bool) -> ParsedHeader:
    at = 13 + _colour_table_nbytes(data[10])
    size = unpack_from("<HH", data, 6)
    if size in _GIF_SCREENS or not 0 < min(size) <= max(size) <= _MAX_GIF_SCREEN:
        size = (1, 1)
    frames, bands, in_data, is_complete = 0, 3, False, False
    for _ in range(MAX_BLOCKS):
        if is_complete or at + 10 > len(data):
            break
        if in_data:
            in_data = data[at] != 0
            at += data[at] + 1
        elif data[at] == _GIF_FRAME:
            if frames == 0:  # the first frame may reach beyond the screen, and decoders then enlarge the screen
                left, top, width, height = unpack_from("<HHHH", data, at + 1)
                size = max(size[0], left + width), max(size[1], top + height)
            frames, in_data = frames + 1, True
            at += 11 + _colour_table_nbytes(data[at + 9])
        elif data[at] == _GIF_EXTENSION:
            if data[at + 1] == _GIF_CONTROL and data[at + 3] & 1:  # a frame with a transparent colour
                bands = 4
            in_data = True
            at += 2
        else:  # the trailer, or a byte that decoders treat as the trailer
            is_complete = True
    is_complete = is_complete or (whole and at + 10 > len(data))
    if frames == 0 and not is_complete:  # because only the first frame tells the size
        raise UnreadableHeader
    return _with_frames(ParsedHeader(bands, 8, size=(size[0], size[1])), frames, at, is_complete=is_complete)


def _colour_table_nbytes(flags: int) -> int:
    """Returns the size of a GIF's colour table in bytes."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _with_frames(header: ParsedHeader, frames: int, read_nbytes: int, *, is_complete: bool) -> ParsedHeader:
    """Returns the header with the number of frames or, if not all frames were read, with the mean size of a frame."""
    if is_complete:
        return header._replace(pages=max(frames, 1))
    return header._replace(page_nbytes=max(read_nbytes // max(frames, 1), 1))


def _parse_avif(data: bytes, _whole: bool) -> ParsedHeader:
    meta = next(box for box in walk_boxes(data, 0, len(data)) if box.kind == b"meta")
    iprp, properties = primary_properties(data, meta)
    (shape,) = (box for box in properties if box.kind == b"ispe")
    coded = unpack_from(">II", data, shape.start + 4)
    size, orientation = apply_transformations(data, properties, coded)
    at = data.find(b"av1C", iprp.start, iprp.end)  # of the picture or of its tiles, which are coded alike
    if at < 0:
        raise UnreadableHeader
    flags = data[at + 6]
    bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    samples = 1.0 if flags & 0x10 else 1 + 2 / ((1 + (flags >> 3 & 1)) * (1 + (flags >> 2 & 1)))
    bands = 4 if data.find(b"auxC", iprp.start, iprp.end) >= 0 else 3
    pages = 1 if data[8:12] != b"avis" else None
    header = ParsedHeader(bands, bits, pages, False, samples, size=size, orientation=orientation)
    return header._replace(
        coded_size=None if size == coded else (coded[0], coded[1]),
        colour=_avif_colour(data, properties),
        has_profile=any(box.kind == b"colr" and data[box.start : box.start + 4] in (b"prof", b"rICC") for box in properties),
        is_premultiplied=has_reference(data, meta, b"prem"),
    )


def _avif_colour(data: bytes, properties: list[Box]) -> SignalledColour | None:
    """Returns the colour space of an AVIF by code points. A file may have a profile as well, which then counts."""
    for box in properties:
        if box.kind == b"colr" and data[box.start : box.start + 4] == b"nclx":
            return SignalledColour(*unpack_from(">HH", data, box.start + 4))
    return None


def _parse_tiff(data: bytes, whole: bool) -> ParsedHeader:
    order = "<" if data[:1] == b"I" else ">"
    is_big = is_bigtiff(data, order)
    offset_code, count_nbytes, entry_nbytes = ("Q", 8, 20) if is_big else ("I", 2, 12)
    first = unpack_from(order + offset_code, data, 8 if is_big else 4)[0]
    tags = read_tags(data, first, order, is_big=is_big, reads_all=False)
    header = ParsedHeader(
        tags.get(_TIFF_SAMPLES, 1),
        tags.get(_TIFF_BITS, 8),
        progressive=False,
        size=(tags.get(WIDTH, 0), tags.get(HEIGHT, 0)),
        orientation=tags.get(ORIENTATION),
        first_extra_sample=tags.get(_TIFF_EXTRA_SAMPLES),
        has_profile=PROFILE in tags,
    )
    pages, at = 0, first
    while at and pages < MAX_PAGES:
        pages += 1
        if at + count_nbytes > len(data):
            break
        count = unpack_from(order + ("Q" if is_big else "H"), data, at)[0]
        link = at + count_nbytes + entry_nbytes * count
        if link + 8 > len(data) and not (whole and link + 4 <= len(data)):
            return header._replace(page_nbytes=max(len(data) // pages, 1))
        at = unpack_from(order + offset_code, data, link)[0]
    return header._replace(pages=pages) if not at else header._replace(page_nbytes=max(len(data) // pages, 1))


_PARSERS: dict[FormatName, Callable[[bytes, bool], ParsedHeader]] = {
    "jpeg": _parse_jpeg,
    "png": _parse_png,
    "webp": _parse_webp,
    "avif": _parse_avif,
    "gif": _parse_gif,
    "tiff": _parse_tiff,
}
