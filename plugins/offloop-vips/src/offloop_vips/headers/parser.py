"""How a source is coded, from its first bytes: size, orientation, samples, passes and pages.

Pure Python, in the server, on untrusted bytes, and on the event loop. The work is bounded: each loop makes at most as many
steps as its constant says, of less than a microsecond each. A file that has more parts, and every honest one has a handful, is
not read: its header is unknown. Only a few bytes at a time are copied, and nothing is unpacked or inflated. Each format has one
reader: a library would walk parts that are not bounded here, and two readings can differ.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error, unpack_from
from typing import NamedTuple

from offloop.operation import Header

from .formats import FormatName
from .iso_boxes import Box, primary_properties, walk
from .tiff_tags import HEIGHT, MAX_EXIF_NBYTES, ORIENTATION, WIDTH, is_big, read_orientation, read_tags

__all__ = ["Coding", "Unclear", "VipsHeader", "read_coding"]

MAX_MARKERS = (
    300  # of a JPEG before its pixels: a profile and XMP in the largest number of pieces are 255 each, and neither is met
)
MAX_CHUNKS = 300  # of a PNG or WebP; an animated WebP has one for every frame
MAX_BLOCKS = 1500  # of a GIF: 256 KiB are 1,028 full ones
MAX_PAGES = 300  # of a TIFF

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEVERAL_PASSES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN = 0xDA
_PNG_BANDS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_GIF_FRAME, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9
_APP1 = 0xE1
_WEBP_EXIF_FLAG = 0x08
_TIFF_SAMPLES, _TIFF_BITS = 277, 258
# of a rotation in quarters, counterclockwise, followed by a mirroring about an axis, as an orientation of EXIF
_TURNED: dict[tuple[int, int | None], int] = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip


class VipsHeader(Header, frozen=True, kw_only=True):
    """What a picture's first bytes declare, with what only this plugin makes use of."""

    samples_per_pixel: float | None = None  # that are coded: 1.5 where colour has half the resolution of lightness, both ways
    lossless: bool | None = None  # of a WebP
    page_nbytes: int | None = None  # of the file for one frame, where not all of them were seen and `pages` is not known


class Coding(NamedTuple):
    """The part of a header that is read here."""

    bands: int | None = None  # as decoded, a palette resolved
    bits: int | None = None
    pages: int | None = None
    progressive: bool | None = None
    samples_per_pixel: float | None = None
    lossless: bool | None = None
    page_nbytes: int | None = None
    size: tuple[int, int] = (0, 0)  # width and height in pixels, as stored
    orientation: int | None = None  # of EXIF, 1 to 8; None: the header does not tell


class Unclear(Exception):
    """The header is broken, longer than what was given, or has more parts than are looked at."""


def read_coding(source: FormatName, data: bytes, *, whole: bool) -> Coding:
    """Read how a source is coded. `whole` says that there is nothing behind these bytes.

    Raises:
        Unclear: it cannot be told.
    """
    try:
        coding = _READERS[source](data, whole)
    except (LookupError, ValueError, ArithmeticError, StopIteration, error) as stumbled:
        raise Unclear from stumbled
    if min(coding.size) < 1:
        raise Unclear
    return coding


def _jpeg(data: bytes, _whole: bool) -> Coding:
    frame: tuple[int, int, int, float] | None = None
    size, exif = (0, 0), b""
    at = 2
    for _ in range(MAX_MARKERS):
        at = data.index(b"\xff", at) + 1
        marker = data[at]
        if marker in (0, 0xFF):
            continue
        at += 1
        if marker in _STANDALONE:
            continue
        if marker == _SCAN and frame is not None:
            passes = frame[0] in _SEVERAL_PASSES or data[at + 2] < frame[2]  # a scan for each band, as some scanners write
            return Coding(frame[2], frame[1], 1, passes, frame[3], size=size, orientation=read_orientation(exif))
        if marker in _FRAMES:
            if frame is not None:  # decoders do not read on, either
                raise Unclear
            height, width = unpack_from(">HH", data, at + 3)
            size = (width, height)
            frame = (marker, data[at + 2], data[at + 7], _sampling(data, at + 8, data[at + 7]))
        nbytes = max(unpack_from(">H", data, at)[0], 2)
        if marker == _APP1 and data[at + 2 : at + 8] == b"Exif\0\0":  # the last one counts, and no other is looked into
            exif = data[at + 2 : at + nbytes]
        at += nbytes
    raise Unclear


def _sampling(data: bytes, at: int, bands: int) -> float:
    """Samples for each pixel, from the factors by which the bands of a JPEG are sampled."""
    factors = [(data[at + 3 * band + 1] >> 4, data[at + 3 * band + 1] & 15) for band in range(min(bands, 4))]
    most = max(across for across, _ in factors) * max(down for _, down in factors)
    return sum(across * down for across, down in factors) / most


def _png(data: bytes, _whole: bool) -> Coding:
    if data[12:16] != b"IHDR":
        raise Unclear
    size = unpack_from(">II", data, 16)
    bits, colour, interlace = data[24], data[25], data[28]
    bands, pages, exif, at = _PNG_BANDS[colour], 1, b"", 8
    for _ in range(MAX_CHUNKS):
        nbytes, kind = unpack_from(">I4s", data, at)
        if kind == b"tRNS" and bands in (1, 3):
            bands += 1
        if kind == b"acTL":
            pages = max(unpack_from(">I", data, at + 8)[0], 1)
        if kind == b"eXIf" and not exif:  # there may be only one, and no other is looked into
            exif = data[at + 8 : at + 8 + min(nbytes, MAX_EXIF_NBYTES)]
        if kind == b"IDAT":
            return Coding(
                bands, max(bits, 8), pages, interlace != 0, size=(size[0], size[1]), orientation=read_orientation(exif)
            )
        at += 12 + nbytes
    raise Unclear


def _webp(data: bytes, whole: bool) -> Coding:
    kind = data[12:16]
    if kind == b"VP8L":
        (bits,) = unpack_from("<I", data, 21)
        return Coding(4 if data[24] & 0x10 else 3, 8, 1, False, 4, True, size=((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1))
    if kind == b"VP8 ":
        width, height = unpack_from("<HH", data, 26)
        return Coding(3, 8, 1, False, 1.5, False, size=(width & 0x3FFF, height & 0x3FFF))  # two bits above tell how to show it
    if kind != b"VP8X":
        raise Unclear
    flags, bands = data[20], 4 if data[20] & 0x10 else 3
    size = (1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    if not flags & 0x02:  # not animated
        lossless, orientation = _webp_frame(data, has_exif=bool(flags & _WEBP_EXIF_FLAG))
        return Coding(bands, 8, 1, False, 1.5, lossless, size=size, orientation=orientation)
    frames, lossless, at = 0, False, 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        kind, nbytes = unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            frames += 1
            lossless = lossless or data[at + 24 : at + 28] == b"VP8L"
        at += 8 + nbytes + nbytes % 2
    return _of_frames(Coding(bands, 8, lossless=lossless, size=size), frames, at, ended=whole and at >= len(data))


def _webp_frame(data: bytes, *, has_exif: bool) -> tuple[bool | None, int | None]:
    """Whether the one frame of a WebP with extended header is lossless, and the orientation. None: not in what was given."""
    lossless: bool | None = None
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return lossless, None
        kind, nbytes = unpack_from("<4sI", data, at)
        if kind in (b"ALPH", b"VP8 ", b"VP8L") and lossless is None:  # alpha of its own is what only a lossy frame has
            lossless = kind == b"VP8L"
        if kind == b"EXIF" and has_exif:
            return lossless, read_orientation(data[at + 8 : at + 8 + min(nbytes, MAX_EXIF_NBYTES)])
        if lossless is not None and not has_exif:
            return lossless, None
        at += 8 + nbytes + nbytes % 2
    raise Unclear


def _gif(data: bytes, whole: bool) -> Coding:
    at = 13 + _table(data[10])
    size = unpack_from("<HH", data, 6)
    frames, bands, in_data, ended = 0, 3, False, False
    for _ in range(MAX_BLOCKS):
        if ended or at + 10 > len(data):
            break
        if in_data:
            in_data = data[at] != 0
            at += data[at] + 1
        elif data[at] == _GIF_FRAME:
            if frames == 0:  # it may be larger than the screen, which then grows
                size = tuple(map(max, size, unpack_from("<HH", data, at + 5)))
            frames, in_data = frames + 1, True
            at += 11 + _table(data[at + 9])
        elif data[at] == _GIF_EXTENSION:
            if data[at + 1] == _GIF_CONTROL and data[at + 3] & 1:  # a frame with a transparent colour
                bands = 4
            in_data = True
            at += 2
        else:  # the end of the file, or what decoders take for it
            ended = True
    return _of_frames(Coding(bands, 8, size=(size[0], size[1])), frames, at, ended=ended or (whole and at + 10 > len(data)))


def _table(flags: int) -> int:
    """The bytes of a GIF's colour table."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _of_frames(coding: Coding, frames: int, seen_nbytes: int, *, ended: bool) -> Coding:
    if ended:
        return coding._replace(pages=max(frames, 1))
    return coding._replace(page_nbytes=max(seen_nbytes // max(frames, 1), 1))


def _avif(data: bytes, _whole: bool) -> Coding:
    meta = next(box for box in walk(data, 0, len(data)) if box.kind == b"meta")
    iprp, properties = primary_properties(data, meta)
    (shape,) = (box for box in properties if box.kind == b"ispe")
    width, height = unpack_from(">II", data, shape.start + 4)
    at = data.find(b"av1C", iprp.start, iprp.end)  # of the picture, or of its tiles: they are coded alike
    if at < 0:
        raise Unclear
    flags = data[at + 6]
    bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    samples = 1.0 if flags & 0x10 else 1 + 2 / ((1 + (flags >> 3 & 1)) * (1 + (flags >> 2 & 1)))
    bands = 4 if data.find(b"auxC", iprp.start, iprp.end) >= 0 else 3
    pages = 1 if data[8:12] != b"avis" else None
    return Coding(bands, bits, pages, False, samples, size=(width, height), orientation=_turned(data, properties))


def _turned(data: bytes, properties: list[Box]) -> int:
    """The rotation and the mirroring of an AVIF, as an orientation of EXIF."""
    quarters = next((data[box.start] & 3 for box in properties if box.kind == b"irot"), 0)
    axis = next((data[box.start] & 1 for box in properties if box.kind == b"imir"), None)
    return _TURNED[quarters, axis]


def _tiff(data: bytes, whole: bool) -> Coding:
    order = "<" if data[:1] == b"I" else ">"
    big = is_big(data, order)
    place, number, entry = ("Q", 8, 20) if big else ("I", 2, 12)
    first = unpack_from(order + place, data, 8 if big else 4)[0]
    tags = read_tags(data, first, order, big=big)
    coding = Coding(
        tags.get(_TIFF_SAMPLES, 1),
        tags.get(_TIFF_BITS, 8),
        progressive=False,
        size=(tags.get(WIDTH, 0), tags.get(HEIGHT, 0)),
        orientation=tags.get(ORIENTATION),
    )
    pages, at = 0, first
    while at and pages < MAX_PAGES:
        pages += 1
        if at + number > len(data):
            break
        count = unpack_from(order + ("Q" if big else "H"), data, at)[0]
        link = at + number + entry * count
        if link + 8 > len(data) and not (whole and link + 4 <= len(data)):
            return coding._replace(page_nbytes=max(len(data) // pages, 1))
        at = unpack_from(order + place, data, link)[0]
    return coding._replace(pages=pages) if not at else coding._replace(page_nbytes=max(len(data) // pages, 1))


_READERS: dict[FormatName, Callable[[bytes, bool], Coding]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "avif": _avif,
    "gif": _gif,
    "tiff": _tiff,
}
