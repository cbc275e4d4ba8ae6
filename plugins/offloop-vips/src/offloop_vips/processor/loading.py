"""From a payload to a picture: what is let in, checked by its header before any of its pixels is decoded."""

from __future__ import annotations

from typing import Any, TypeAlias

import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.processor import Encoded, Raster

from ..evaluation import Evaluation
from ..geometry import Size
from ..headers.formats import FORMAT_NAMES, FORMATS, SNIFF_NBYTES, FormatName, sniff
from ..operations import Decode
from ..picture import Image, Picture, check_pixels
from ..pipeline import Pipeline, shrink_on_load
from .libvips_errors import corrupt_source, lacks_memory
from .source_limits import admit, check_pages

__all__ = ["is_readable_when_small", "open_encoded", "open_raster", "recognise"]

MAX_BANDS = 5  # cyan, magenta, yellow, black and alpha
_Options: TypeAlias = dict[str, Any]


def recognise(encoded: Encoded, decode: Decode) -> FormatName:
    """The source's format, by its first bytes.

    Raises:
        TaskFailed: "corrupt_source" where there are none; "unsupported_format" where they are not let in.
    """
    start = bytes(memoryview(encoded.data)[:SNIFF_NBYTES])
    if not start:
        raise TaskFailed("corrupt_source", "the source is empty: 0 bytes")
    source = sniff(start)
    allowed = ", ".join(decode.formats)
    if source is None:
        known = ", ".join(FORMAT_NAMES)
        raise TaskFailed("unsupported_format", f"the source is none of {known}: it begins with {start[:12].hex(' ')}")
    if source not in decode.formats:
        raise TaskFailed("unsupported_format", f"the source is {source}, and what is allowed is {allowed} (Decode.formats)")
    return source


def open_encoded(encoded: Encoded, source: FormatName, pipeline: Pipeline, evaluation: Evaluation) -> Picture:
    """A picture over encoded bytes, which are read in place and must stay until it is gone.

    Raises:
        TaskFailed: "corrupt_source", "unsupported_format", "too_many_pixels" or "too_many_pages", all from the header.
        InvalidTask: `Decode` asks for pages that the source has not.
    """
    decode = pipeline.decode
    with memoryview(encoded.data)[:] as data:
        admit(data, source, decode)
    header = _load(encoded, source, evaluation, {"fail_on": decode.fail_on})
    check_pixels(Size(header.width, header.height), 1, decode.max_pixels)
    _check_bands(header)
    pages = _count_pages(header, decode, source)
    options = _options(Picture(header, evaluation, decode.max_pixels), pages, source, pipeline)
    image = _load(encoded, source, evaluation, {"fail_on": decode.fail_on, **options}) if options else header
    check_pixels(Size(image.width, image.height // pages), pages, decode.max_pixels)
    picture = Picture(
        _in_srgb(evaluation.watch(_with_durations(image, decode.page, pages)), source),
        evaluation,
        decode.max_pixels,
        pages=pages,
        auto_orient=decode.auto_orient,
        loaded_from=Size(header.width, header.height) if {"shrink", "scale"} & options.keys() else None,
    )
    return picture.settled() if pages > 1 else picture  # pages are cut out one by one, and not in the order of their rows


def open_raster(raster: Raster, evaluation: Evaluation) -> Picture:
    """A picture over samples, which are read in place and must stay until it is gone.

    Raises:
        InvalidTask: they are no 8-bit picture of one to four bands.
    """
    if len(raster.shape) not in (2, 3):
        raise InvalidTask(f"a raster of shape {raster.shape}: expected (height, width) or (height, width, bands)")
    height, width, bands = (*raster.shape, 1)[:3]
    if raster.dtype not in ("|u1", "u1", "<u1", ">u1", "uint8"):
        raise InvalidTask(f"a raster of {raster.dtype}: image operations take 8-bit samples, '|u1'")
    if not (1 <= bands <= 4 and width >= 1 and height >= 1):  # noqa: PLR2004 (red, green, blue and alpha)
        raise InvalidTask(f"a raster of shape {raster.shape}: expected (height, width, bands) with 1 to 4 bands")
    if memoryview(raster.data).nbytes != height * width * bands:
        nbytes = memoryview(raster.data).nbytes
        raise InvalidTask(f"a raster of shape {raster.shape} is {height * width * bands} bytes, but there are {nbytes}")
    image: Image = pyvips.Image.new_from_memory(raster.data, width, height, bands, "uchar")
    image = image.copy(interpretation="srgb" if bands >= 3 else "b-w")  # noqa: PLR2004 (colour)
    return Picture(evaluation.watch(image), evaluation, max(Decode().max_pixels, width * height))


def _load(encoded: Encoded, source: FormatName, evaluation: Evaluation, options: _Options) -> Image:
    # a slice keeps a shared segment from being unmapped while libvips points into it, and nobody else keeps the slice
    data = evaluation.keep(memoryview(encoded.data)[:])
    loader = getattr(pyvips.Image, FORMATS[source].loader)
    try:
        return loader(pyvips.Source.new_from_memory(data), access="sequential", **options)
    except pyvips.Error as error:
        if lacks_memory(error):
            raise
        failure = corrupt_source(source, error)
    raise failure  # outside of the handler: an error that has the other as its context keeps frames, and images, alive


def is_readable_when_small(encoded: Encoded) -> bool:
    """Whether a WebP that could not be read at its size can be at an eighth of that, which takes a fraction of the memory.

    Its decoder has the same words for damage and for a lack of memory.
    """
    with memoryview(encoded.data)[:] as data:
        try:
            pyvips.Image.webpload_source(pyvips.Source.new_from_memory(data), scale=1 / 8, fail_on="warning").avg()  # type: ignore[attr-defined]
        except pyvips.Error as error:
            return lacks_memory(error)
    return True


def _check_bands(header: Image) -> None:
    if header.bands > MAX_BANDS:
        raise TaskFailed("unsupported_format", f"the source has {header.bands} bands, and a picture has {MAX_BANDS} at most")


def _count_pages(header: Image, decode: Decode, source: FormatName) -> int:
    there = int(header.get("n-pages")) if header.get_typeof("n-pages") else 1
    check_pages(there, source, decode)
    wanted = max(there - decode.page, 1) if decode.pages == -1 else decode.pages
    if decode.page + wanted > there:
        raise InvalidTask(f"Decode(page={decode.page}, pages={decode.pages}): the {source} source has pages 0 to {there - 1}")
    return wanted


def _with_durations(image: Image, first: int, pages: int) -> Image:
    """The pages with their own durations: libvips hands out those of the whole animation, from its first frame on."""
    if pages == 1 or not image.get_typeof("delay"):
        return image
    image = image.copy()
    image.set_type(pyvips.GValue.array_int_type, "delay", list(image.get("delay"))[first : first + pages])
    return image


def _options(header: Picture, pages: int, source: FormatName, pipeline: Pipeline) -> _Options:
    """What else the decoder is told once the header is known."""
    if pages > 1 or pipeline.decode.page > 0:
        return {"page": pipeline.decode.page, "n": pages}
    shrink = shrink_on_load(pipeline, source, Size(header.image.width, header.image.height), header.orientation)
    if shrink == 1:
        return {}
    return {"shrink": shrink} if source == "jpeg" else {"scale": 1 / shrink}


def _in_srgb(image: Image, source: FormatName) -> Image:
    """8-bit sRGB or grey, by the colour profile in the file where there is one and it makes sense."""
    try:
        return _to_8_bits(_by_profile(image))
    except pyvips.Error as error:
        if lacks_memory(error):
            raise
    raise TaskFailed("unsupported_format", f"a {source} file in the colour space {image.interpretation!r} cannot be converted")


def _by_profile(image: Image) -> Image:
    has_profile = image.get_typeof("icc-profile-data") != 0
    if image.interpretation == "cmyk":
        return image.icc_transform("srgb", input_profile="cmyk", embedded=has_profile, intent="perceptual")
    if not has_profile or image.interpretation in ("labs", "grey16"):
        return image
    depth = 16 if image.interpretation == "rgb16" else 8
    try:
        return image.icc_transform("srgb", embedded=True, depth=depth, intent="perceptual")
    except pyvips.Error as error:
        if lacks_memory(error):
            raise
        return image  # a broken profile: what everybody does is to show the picture without it


def _to_8_bits(image: Image) -> Image:
    space = "b-w" if image.bands < 3 else "srgb"  # noqa: PLR2004 (grey, with alpha or not)
    return image.colourspace(space).cast("uchar")
