"""Loader: makes a picture from a payload, after checks of its format and header, before any pixel is decoded."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.processor import Encoded, Raster

from ..colour_spaces import ColourSpace, profile_of
from ..evaluation import Evaluation
from ..geometry import Size
from ..headers.formats import FORMAT_NAMES, FORMATS, SNIFF_NBYTES, FormatName, sniff
from ..headers.parser import ParsedHeader
from ..limits import check_format, check_metadata, check_nbytes, check_page_count, check_pixels
from ..operations import Decode
from ..picture import Image, Picture, interpretation_of, orientation_of
from ..pipeline import Pipeline, load_shrink_factor
from .colours.source_colours import is_rgb, read_colours
from .libvips_errors import is_out_of_memory, unreadable_source
from .scan_reader import ScanReader
from .source_limits import check_source

__all__ = ["can_load_shrunk_webp", "detect_format", "load_encoded", "load_raster", "open_source"]

_RASTER_FORMATS = {"u1": "uchar", "uint8": "uchar", ">u1": "uchar", "<u1": "uchar", "u2": "ushort", "uint16": "ushort"}
_METADATA = ("exif-data", "xmp-data", "iptc-data", "icc-profile-data")  # fields of libvips
_Options: TypeAlias = dict[str, Any]


def detect_format(encoded: Encoded, decode: Decode) -> FormatName:
    """Returns the source's format by its signature.

    Raises:
        TaskFailed: "source_too_large"; "corrupt_source" if the source is empty; "unsupported_format" if its format is
            unknown or not allowed.
    """
    check_nbytes(memoryview(encoded.data).nbytes, decode.max_bytes)
    start = bytes(memoryview(encoded.data)[:SNIFF_NBYTES])
    if not start:
        raise TaskFailed("corrupt_source", "the source is empty: 0 bytes")
    source = sniff(start)
    if source is None:
        known = ", ".join(FORMAT_NAMES)
        raise TaskFailed("unsupported_format", f"the source is none of {known}: it starts with {start[:12].hex(' ')}")
    check_format(source, decode.formats)
    return source


def load_encoded(
    encoded: Encoded, source: FormatName, pipeline: Pipeline, evaluation: Evaluation, others: Sequence[Pipeline] = ()
) -> Picture:
    """Returns a picture over encoded bytes. It reads the bytes in place, so that they must exist until `evaluation.release`.

    Args:
        encoded: the bytes.
        source: their format.
        pipeline: the pipeline that the picture is for.
        evaluation: the computations of the task.
        others: further pipelines with the same `Decode`. The decoder skips only the detail that none of them needs.

    Raises:
        TaskFailed: "corrupt_source", "unsupported_format", "too_many_pixels" or "too_many_pages", all by the header.
        InvalidTask: `Decode` selects pages that the source does not have.
    """
    decode = pipeline.decode
    with memoryview(encoded.data)[:] as data:
        parsed = check_source(data, source, decode)
    checks_scan = source == "jpeg" and parsed.progressive is False and decode.fail_on == "warning"
    pipelines = (pipeline, *others)
    opened = _open_shrunk(encoded, parsed, pipelines, evaluation, checks_scan=checks_scan) if source == "jpeg" else None
    opened = opened or _open(encoded, source, pipelines, evaluation, checks_scan=checks_scan)
    image, stored, pages, options = opened
    check_pixels(Size(image.width, image.height // pages), pages, decode.max_pixels)
    converted = read_colours(evaluation.watch(_with_durations(image, decode.page, pages)), source, parsed, decode)
    picture = Picture(
        converted.image,
        evaluation,
        decode.max_pixels,
        pages=pages,
        auto_orient=decode.auto_orient,
        colour_space=converted.space,
        extra_info={"source_colours": converted.name, **_left_out(image, parsed, pages)},
        unshrunk_size=stored if {"shrink", "scale"} & options.keys() else None,
        # a JPEG decoder drops a part of a pixel; a WebP decoder scales the whole picture to whole pixels
        shrunk_extent=(stored.width / options["shrink"], stored.height / options["shrink"]) if "shrink" in options else None,
    )
    return picture.with_random_access() if pages > 1 else picture  # because a step reads the rows of several pages in turn


class _Opened(NamedTuple):
    """An image whose pixels have not been decoded yet."""

    image: Image
    stored: Size  # size of one page before the decoder shrinks it
    pages: int  # number of pages in the image
    options: _Options  # of the decoder


def _open_shrunk(
    encoded: Encoded, parsed: ParsedHeader, pipelines: Sequence[Pipeline], evaluation: Evaluation, *, checks_scan: bool
) -> _Opened | None:
    """Opens a JPEG that its decoder shrinks, without reading the header with the decoder first, which takes 0.4 ms.

    Returns:
        None if the decoder does not shrink it, or has not read the header that the parser has read.
    """
    stored, orientation = Size(*parsed.size), parsed.orientation or 1
    shrink = _shrink_factor(pipelines, "jpeg", stored, orientation, has_alpha=False) if stored.pixels else 1
    if shrink == 1:
        return None
    decode, options = pipelines[0].decode, {"shrink": shrink}
    image = _load(encoded, "jpeg", evaluation, decode, options, checks_scan=checks_scan, height=stored.height)
    if (image.width, image.height) != (stored.width // shrink, stored.height // shrink) or orientation_of(image) != orientation:
        return None
    return _Opened(image, stored, _pages_to_read(image, decode, "jpeg"), options)


def _open(
    encoded: Encoded, source: FormatName, pipelines: Sequence[Pipeline], evaluation: Evaluation, *, checks_scan: bool
) -> _Opened:
    decode = pipelines[0].decode
    header = _load(encoded, source, evaluation, decode, {}, checks_scan=checks_scan)
    check_pixels(Size(header.width, header.height), 1, decode.max_pixels)
    if source == "avif":  # whose metadata only its decoder finds
        check_metadata(sum(len(header.get(name)) for name in _METADATA if header.get_typeof(name)), decode.max_metadata_bytes)
    pages, stored = _pages_to_read(header, decode, source), Size(header.width, header.height)
    options = _load_options(header, pages, source, pipelines)
    if not options:
        return _Opened(header, stored, pages, options)
    image = _load(encoded, source, evaluation, decode, options, checks_scan=checks_scan, height=stored.height)
    return _Opened(image, stored, pages, options)


def load_raster(raster: Raster, evaluation: Evaluation) -> Picture:
    """Returns a picture over samples. It reads the samples in place, so that they must exist until `evaluation.release`.

    Raises:
        InvalidTask: the raster is not a picture of one to four bands, of 8 or 16 bits.
    """
    if len(raster.shape) not in (2, 3):
        raise InvalidTask(f"a raster of shape {raster.shape}: expected (height, width) or (height, width, bands)")
    height, width, bands = (*raster.shape, 1)[:3]
    format_name = _RASTER_FORMATS.get(raster.dtype.removeprefix("<" if sys.byteorder == "little" else ">").removeprefix("|"))
    if format_name is None:
        raise InvalidTask(f"a raster of {raster.dtype}: image operations take samples of 8 or 16 bits, '|u1' or '<u2'")
    if not (1 <= bands <= 4 and width >= 1 and height >= 1):  # noqa: PLR2004 (red, green, blue and alpha)
        raise InvalidTask(f"a raster of shape {raster.shape}: expected (height, width, bands) with 1 to 4 bands")
    nbytes, needed = memoryview(raster.data).nbytes, height * width * bands * (2 if format_name == "ushort" else 1)
    if nbytes != needed:
        raise InvalidTask(f"a raster of shape {raster.shape} is {needed} bytes, but there are {nbytes}")
    image: Image = pyvips.Image.new_from_memory(raster.data, width, height, bands, format_name)
    image = image.copy(interpretation=interpretation_of(bands, is_deep=format_name == "ushort"))
    space: ColourSpace = "srgb"
    if bands >= 3 and is_rgb(raster.profile):  # noqa: PLR2004 (the profiles are for colours)
        space = "p3" if raster.profile == profile_of("p3") else "source"
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", raster.profile)
    max_pixels = max(Decode().max_pixels, width * height)
    return Picture(evaluation.watch(image), evaluation, max_pixels, colour_space=space)


def open_source(
    encoded: Encoded, evaluation: Evaluation, *, checks_scan: bool, height: int = 0, shrink: int = 1
) -> pyvips.Source:
    """Returns a source of libvips over encoded bytes, which must exist until `evaluation.release`.

    Args:
        encoded: the bytes.
        evaluation: the computations of the task.
        checks_scan: for a JPEG with one scan: `evaluation.scan_reader` then knows what its decoder leaves over.
        height: height of the picture in pixels, if the decoder shrinks it.
        shrink: the factor by which it does.
    """
    # a slice of its own prevents the unmapping of the shared segment while libvips points into it
    data = evaluation.keep_alive(memoryview(encoded.data)[:])
    if not checks_scan:
        return pyvips.Source.new_from_memory(data)
    reader = evaluation.scan_reader = ScanReader(data, evaluation.scan_reader, height, shrink)
    evaluation.on_release(reader.close)
    return reader.open()


def _load(
    encoded: Encoded,
    source: FormatName,
    evaluation: Evaluation,
    decode: Decode,
    options: _Options,
    *,
    checks_scan: bool,
    height: int = 0,
) -> Image:
    shrink = options.get("shrink", 1)
    opened = open_source(encoded, evaluation, checks_scan=checks_scan, height=height, shrink=shrink)
    loader = getattr(pyvips.Image, FORMATS[source].loader)
    try:
        return loader(opened, access="sequential", fail_on=decode.fail_on, **options)
    except pyvips.Error as error:
        if is_out_of_memory(error):
            raise
        failure = unreadable_source(source, error)
    raise failure  # outside of the handler, because the pyvips error as its context would keep frames and images alive


def can_load_shrunk_webp(encoded: Encoded) -> bool:
    """Whether a WebP that could not be decoded at full size can be decoded at an eighth of it, with a fraction of the memory.

    This tells a lack of memory from a corrupt file, because the decoder reports both with the same text.
    """
    with memoryview(encoded.data)[:] as data:
        try:
            pyvips.Image.webpload_source(pyvips.Source.new_from_memory(data), scale=1 / 8, fail_on="warning").avg()  # type: ignore[attr-defined]
        except pyvips.Error as error:
            return is_out_of_memory(error)
    return True


def _left_out(header: Image, parsed: ParsedHeader, pages: int) -> dict[str, int]:
    """Returns the number of pages of the source, and of those that were not read."""
    total = max(int(header.get("n-pages")) if header.get_typeof("n-pages") else 1, parsed.pages or 1)
    return {"source_pages": total, "pages_left_out": total - pages}


def _pages_to_read(header: Image, decode: Decode, source: FormatName) -> int:
    total = int(header.get("n-pages")) if header.get_typeof("n-pages") else 1
    check_page_count(total, source, decode.max_pages)
    pages = max(total - decode.page, 1) if decode.pages == -1 else decode.pages
    if decode.page + pages > total:
        raise InvalidTask(f"Decode(page={decode.page}, pages={decode.pages}): the {source} source has pages 0 to {total - 1}")
    return pages


def _with_durations(image: Image, first: int, pages: int) -> Image:
    """Returns the pages with their own durations. libvips gives the durations of all frames, from the first one on."""
    if pages == 1 or not image.get_typeof("delay"):
        return image
    image = image.copy()
    image.set_type(pyvips.GValue.array_int_type, "delay", list(image.get("delay"))[first : first + pages])
    return image


def _load_options(header: Image, pages: int, source: FormatName, pipelines: Sequence[Pipeline]) -> _Options:
    """Returns the decoder options that depend on the header: pages, or shrink on load."""
    decode, stored = pipelines[0].decode, Size(header.width, header.height)
    if pages > 1 or decode.page > 0:
        return {"page": decode.page, "n": pages}
    shrink = _shrink_factor(pipelines, source, stored, orientation_of(header), has_alpha=header.hasalpha())
    if shrink == 1:
        return {}
    return {"shrink": shrink} if source == "jpeg" else {"scale": 1 / shrink}


def _shrink_factor(
    pipelines: Sequence[Pipeline], source: FormatName, stored: Size, orientation: int, *, has_alpha: bool
) -> int:
    """Returns the largest factor by which the decoder may shrink the picture for all pipelines."""
    return min(load_shrink_factor(pipeline, source, stored, orientation, has_alpha=has_alpha) for pipeline in pipelines)
