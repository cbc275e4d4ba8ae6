"""How a source is coded, from its first bytes: what `imagesize` does not tell and an estimate of memory needs.

Pure Python, in the server, on strangers' bytes. Each loop makes at most so many steps as its constant says, of about a
microsecond each; a file that has more of them, and every honest one has a handful, is not read: nobody knows its header then.
Nothing is copied but a few bytes at a time, and nothing is unpacked or inflated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import error, unpack_from
from typing import NamedTuple

from offloop.operation import Header

from .formats import FormatName

__all__ = ["Coding", "Unclear", "VipsHeader", "read_coding"]

MAX_MARKERS = (
    300  # of a JPEG before its pixels: a profile and XMP in the largest number of pieces are 255 each, and neither is met
)
MAX_CHUNKS = 300  # of a PNG or WebP; an animated WebP has one for every frame
MAX_BLOCKS = 1500  # of a GIF: 256 KiB are 1,028 full ones
MAX_BOXES = 200  # of an AVIF, at each of its levels; a burst of pictures has a few dozen
MAX_PROPERTIES_NBYTES = 16_384  # of an AVIF, all items together: a kilobyte in all that we have met
MAX_TAGS = 200  # of a page of a TIFF; there are 80 in use, and cameras add some
MAX_PAGES = 300  # of a TIFF

_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEVERAL_PASSES = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SCAN = 0xDA
_PNG_BANDS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_GIF_FRAME, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9
_TIFF_SHORT, _TIFF_LONG = 3, 4


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
    size: tuple[int, int] | None = None  # as the decoder reads it, where it may read it in another place than the library does
    ends_at: int | None = None  # nothing from here on says anything of the size


class Unclear(Exception):
    """The header is broken, longer than what was given, or has more parts than are looked at."""


def read_coding(source: FormatName, data: bytes, *, whole: bool) -> Coding:
    """Read how a source is coded. `whole` says that there is nothing behind these bytes.

    Raises:
        Unclear: it cannot be told, and the size should not be asked for either.
    """
    try:
        return _READERS[source](data, whole)
    except (LookupError, ValueError, ArithmeticError, StopIteration, error) as stumbled:
        raise Unclear from stumbled


def _jpeg(data: bytes, _whole: bool) -> Coding:
    frame: tuple[int, int, int, float] | None = None
    size = (0, 0)
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
            return Coding(frame[2], frame[1], 1, passes, frame[3], size=size, ends_at=at + 12)
        if marker in _FRAMES:
            if frame is not None:  # decoders do not read on, either
                raise Unclear
            height, width = unpack_from(">HH", data, at + 3)
            size = (width, height)
            frame = (marker, data[at + 2], data[at + 7], _sampling(data, at + 8, data[at + 7]))
        at += max(unpack_from(">H", data, at)[0], 2)
    raise Unclear


def _sampling(data: bytes, at: int, bands: int) -> float:
    """Samples for each pixel, from the factors by which the bands of a JPEG are sampled."""
    factors = [(data[at + 3 * band + 1] >> 4, data[at + 3 * band + 1] & 15) for band in range(min(bands, 4))]
    most = max(across for across, _ in factors) * max(down for _, down in factors)
    return sum(across * down for across, down in factors) / most


def _png(data: bytes, _whole: bool) -> Coding:
    bits, colour, interlace = data[24], data[25], data[28]
    bands, pages, at = _PNG_BANDS[colour], 1, 8
    for _ in range(MAX_CHUNKS):
        nbytes, kind = unpack_from(">I4s", data, at)
        if kind == b"tRNS" and bands in (1, 3):
            bands += 1
        if kind == b"acTL":
            pages = max(unpack_from(">I", data, at + 8)[0], 1)
        if kind == b"IDAT":
            return Coding(bands, max(bits, 8), pages, interlace != 0, ends_at=at)
        at += 12 + nbytes
    raise Unclear


def _webp(data: bytes, whole: bool) -> Coding:
    kind = data[12:16]
    if kind == b"VP8L":
        return Coding(4 if data[24] & 0x10 else 3, 8, 1, False, 4, True)
    if kind == b"VP8 ":
        width, height = unpack_from("<HH", data, 26)
        return Coding(3, 8, 1, False, 1.5, False, size=(width & 0x3FFF, height & 0x3FFF))  # two bits above tell how to show it
    bands, frames, lossless, at = 4 if data[20] & 0x10 else 3, 0, False, 12
    if not data[20] & 0x02:  # not animated
        return Coding(bands, 8, 1, False, 1.5, _is_lossless(data))
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        kind, nbytes = unpack_from("<4sI", data, at)
        if kind == b"ANMF":
            frames += 1
            lossless = lossless or data[at + 24 : at + 28] == b"VP8L"
        at += 8 + nbytes + nbytes % 2
    return _of_frames(Coding(bands, 8, lossless=lossless), frames, at, ended=whole and at >= len(data))


def _is_lossless(data: bytes) -> bool | None:
    """Whether the one frame of a WebP with extended header is; None where it lies behind what was given."""
    at = 12
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return None
        kind, nbytes = unpack_from("<4sI", data, at)
        if kind in (b"ALPH", b"VP8 ", b"VP8L"):  # alpha of its own is what only a lossy frame has
            return kind == b"VP8L"
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
    meta = next(box for box in _boxes(data, 0, len(data)) if box[0] == b"meta")
    inside = {kind: (start, end) for kind, start, end in _boxes(data, meta[1] + 4, meta[2])}
    start, end = inside[b"iprp"]
    if end - start > MAX_PROPERTIES_NBYTES:
        raise Unclear
    properties = next(box for box in _boxes(data, start, end) if box[0] == b"ipco")
    # which belongs to what is the library's affair; thumbnails and tiles are smaller than the picture
    sizes = [unpack_from(">II", data, at + 4) for kind, at, _ in _boxes(data, properties[1], properties[2]) if kind == b"ispe"]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    at = data.find(b"av1C", start, end)
    if at < 0:
        raise Unclear
    flags = data[at + 6]
    bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    samples = 1.0 if flags & 0x10 else 1 + 2 / ((1 + (flags >> 3 & 1)) * (1 + (flags >> 2 & 1)))
    bands = 4 if data.find(b"auxC", start, end) >= 0 else 3
    return Coding(bands, bits, 1 if data[8:12] != b"avis" else None, False, samples, size=(width, height))


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of one level of an AVIF that end within what was given: kind, and where the contents begin and end."""
    for _ in range(MAX_BOXES):
        if start + 8 > end:
            return
        nbytes, kind = unpack_from(">I4s", data, start)
        head = 8
        if nbytes == 1:
            nbytes, head = unpack_from(">Q", data, start + 8)[0], 16
        stop = start + nbytes if nbytes else end
        if nbytes and nbytes < head:
            raise Unclear
        yield kind, start + head, min(stop, end)
        start = stop
    raise Unclear


def _tiff(data: bytes, whole: bool) -> Coding:
    order = "<" if data[:1] == b"I" else ">"
    big = unpack_from(order + "H", data, 2)[0] == 43  # noqa: PLR2004 (BigTIFF)
    place, number, entry = ("Q", 8, 20) if big else ("I", 2, 12)
    first = unpack_from(order + place, data, 8 if big else 4)[0]
    tags = _tags(data, first, order, big)
    coding = Coding(tags.get(277, 1), tags.get(258, 8), progressive=False, size=(tags.get(256, 0), tags.get(257, 0)))
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


def _tags(data: bytes, at: int, order: str, big: bool) -> dict[int, int]:
    """The numbers in the first page of a TIFF; of several in one tag, where they lie elsewhere, the first."""
    count = unpack_from(order + ("Q" if big else "H"), data, at)[0]
    if count > MAX_TAGS:
        raise Unclear
    tags: dict[int, int] = {}
    for number in range(count):
        entry = at + (8 + 20 * number if big else 2 + 12 * number)
        tag, kind = unpack_from(order + "HH", data, entry)
        length = unpack_from(order + ("Q" if big else "I"), data, entry + 4)[0]
        value = entry + (12 if big else 8)
        if kind not in (_TIFF_SHORT, _TIFF_LONG):
            continue
        if length * (2 if kind == _TIFF_SHORT else 4) > (8 if big else 4):
            value = unpack_from(order + ("Q" if big else "I"), data, value)[0]
            if value + 4 > len(data):
                continue
        tags.setdefault(tag, unpack_from(order + ("H" if kind == _TIFF_SHORT else "I"), data, value)[0])
    return tags


_READERS: dict[FormatName, Callable[[bytes, bool], Coding]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "avif": _avif,
    "gif": _gif,
    "tiff": _tiff,
}
