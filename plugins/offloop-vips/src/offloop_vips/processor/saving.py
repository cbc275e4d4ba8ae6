"""Saver: encodes a picture, or computes its samples, directly into result memory."""

from __future__ import annotations

import sys
from typing import Any, cast

import msgspec
import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.processor import Encoded, Output, Raster, Task

from ..colour_spaces import NAMES, profile_of
from ..headers.formats import FORMATS
from ..headers.gif_frames import read_gif_frames
from ..headers.webp_frames import read_webp_frames
from ..limits import check_output_nbytes
from ..operations import Answer, Encoder, Raw
from ..picture import Image, Picture
from .quality_search import LossyEncoder, encode_in_memory, encode_to_goal, has_goal

__all__ = ["save_answer", "save_encoded", "save_raster"]

_FRAME_READERS = {"gif": read_gif_frames, "webp": read_webp_frames}
_KEEP_FLAGS = {"exif": 1, "xmp": 2, "iptc": 4}  # of libvips
_KEEP_PROFILE = 8
_ITEM_NBYTES = {"uchar": 1, "ushort": 2}
_ORDER = "<" if sys.byteorder == "little" else ">"
# dtype of Raw -> libvips band format, array interface dtype, bytes of one sample
_SAMPLES = {
    "uint8": ("uchar", "|u1", 1),
    "uint16": ("ushort", f"{_ORDER}u2", 2),
    "float32": ("float", f"{_ORDER}f4", 4),
}


def save_encoded(picture: Picture, encoder: Encoder, task: Task, max_nbytes: int | None = None) -> Encoded:
    """Encodes a picture into memory of `task.output`.

    Raises:
        TaskFailed: "processing_failed" if the format cannot hold a picture of this size; "output_too_large" if the file would
            be longer than `max_nbytes`.
        InvalidTask: the format cannot hold several pages.
        pyvips.Error: the pixels could not be computed or encoded.
    """
    _check_fits_format(picture, encoder)
    picture = encoder.prepare(picture if encoder.can_hold_profile else picture.in_colour_space("srgb"))
    image, has_profile = _with_profile(picture, encoder)
    if picture.pages > 1:
        image.set_type(pyvips.GValue.gint_type, "page-height", picture.page_size.height)
    if not has_goal(encoder):
        picture.evaluation.report_progress(image)
    expected = int(image.width * image.height * image.bands * _ITEM_NBYTES[image.format] * encoder.typical_ratio)
    file_format, keep = FORMATS[encoder.format], sum(_KEEP_FLAGS[kind] for kind in picture.kept_metadata)
    keep += _KEEP_PROFILE if has_profile else 0
    info = {"media_type": file_format.media_type, "format": encoder.format, **_info(picture, image.bands)}
    if has_goal(encoder):
        copied = picture.evaluation.copy_to_memory(image)
        data, found = encode_to_goal(copied, cast("LossyEncoder", encoder), task, keep)
        check_output_nbytes(len(data), max_nbytes)
        output = _written(data, task)
        info |= found
    elif encoder.needs_seek:
        data = encode_in_memory(image, encoder, keep)
        check_output_nbytes(len(data), max_nbytes)
        output = _written(data, task)
    else:
        output = task.output(expected if max_nbytes is None else min(expected, max_nbytes))
        _encode(image, encoder, _OutputWriter(output, max_nbytes), keep)
    if picture.pages > 1:
        info |= _frames(output.view, encoder)
    return Encoded(output.view, info)


def _with_profile(picture: Picture, encoder: Encoder) -> tuple[Image, bool]:
    """Returns a copy of the image, with the profile of its colour space if the file gets one, and whether it does."""
    image, space = picture.image.copy(), picture.colour_space
    is_attached = space != "srgb" if picture.attaches_profile is None else picture.attaches_profile
    if not (is_attached and encoder.can_hold_profile) or image.bands < 3:  # noqa: PLR2004 (the profiles are for colours)
        return image, False
    if space != "source":  # otherwise the image has its profile
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile_of(space))
    return image, True


def save_answer(picture: Picture, answer: Answer, task: Task) -> Encoded:
    """Computes the values of an answer, and writes them as JSON."""
    values = answer.answer(picture)
    info = {"media_type": "application/json", "format": "json", **values}
    return Encoded(_written(msgspec.json.encode(values), task).view, info)


def _written(data: bytes, task: Task) -> Output:
    output = task.output(len(data))
    output.write(data)
    return output


def _encode(image: Image, encoder: Encoder, writer: _OutputWriter, keep: int) -> None:
    target = pyvips.TargetCustom()
    target.on_write(writer.write)  # the writer must not refer to the target, because a cycle would keep result memory alive
    try:
        encoder.save(image, target, keep)
    except pyvips.Error:
        if writer.error is None:
            raise
    if writer.error is not None:
        raise writer.error


def save_raster(picture: Picture, raw: Raw, task: Task, max_nbytes: int | None = None) -> Raster:
    """Computes a picture into a block of `task.allocate`.

    Raises:
        TaskFailed: "output_too_large" if the samples have more than `max_nbytes`.
    """
    band_format, dtype, itemsize = _SAMPLES[raw.dtype]
    image = picture.evaluation.report_progress(_samples(picture, raw).copy())
    shape = (image.height, image.width, image.bands)
    nbytes = image.height * image.width * image.bands * itemsize
    check_output_nbytes(nbytes, max_nbytes)
    block = task.allocate(nbytes)
    image.write(pyvips.Image.new_from_memory(block[:], image.width, image.height, image.bands, band_format))
    info = {"media_type": "application/octet-stream", "format": "raw", "dtype": raw.dtype, **_info(picture, image.bands)}
    return Raster(block, shape, dtype, info, _profile_of(picture))


def _profile_of(picture: Picture) -> bytes:
    """Returns the profile of the colours; empty if they are sRGB or grey."""
    space = picture.colour_space
    if space == "srgb" or picture.image.bands < 3:  # noqa: PLR2004 (the profiles are for colours)
        return b""
    return bytes(picture.image.get("icc-profile-data")) if space == "source" else profile_of(space)


def _samples(picture: Picture, raw: Raw) -> Image:
    if raw.dtype != "float32":
        return picture.with_depth(16 if raw.dtype == "uint16" else 8).image
    image = picture.straight().image
    return image.linear(1 / 257, 0) if picture.is_deep else image.cast("float")


class _OutputWriter:
    """Write callback of libvips that appends to result memory. It keeps the first exception, because C code calls it."""

    def __init__(self, output: Output, max_nbytes: int | None) -> None:
        self.output = output
        self.max_nbytes = max_nbytes
        self.nbytes = 0
        self.error: BaseException | None = None

    def write(self, chunk: Any) -> int:
        if self.error is not None:
            return -1
        try:
            self.nbytes += len(chunk)
            check_output_nbytes(self.nbytes, self.max_nbytes)
            return self.output.write(memoryview(chunk))
        except BaseException as error:  # `save_encoded` raises it after libvips has returned
            self.error = _without_frames(error)
            return -1


def _without_frames(error: BaseException) -> BaseException:
    """Removes the tracebacks from an error and its contexts, because their frames keep the image alive."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
    return error


def _check_fits_format(picture: Picture, encoder: Encoder) -> None:
    if picture.pages > 1 and not encoder.can_hold_pages:
        name = type(encoder).__name__
        raise InvalidTask(
            f"{name} makes files of one page, but Decode read {picture.pages}; use Webp or Gif, or Raw for all samples"
        )
    width, height = picture.page_size
    max_side = FORMATS[encoder.format].max_side
    if max(width, height) > max_side:
        message = f"{width} x {height} pixels do not fit into {encoder.format}, the limit is {max_side:,} a side"
        raise TaskFailed("processing_failed", message)


def _frames(data: memoryview, encoder: Encoder) -> dict[str, Any]:
    if encoder.format not in _FRAME_READERS:  # a document of pages
        return {}
    frames = _FRAME_READERS[encoder.format](data)
    if frames is None:  # because all pages were equal
        return {"pages": 1}
    return {"pages": len(frames.durations_ms), "durations_ms": frames.durations_ms, "loop": frames.loop}


def _info(picture: Picture, bands: int) -> dict[str, Any]:
    width, height = picture.page_size
    colours = {"colour_space": NAMES[picture.colour_space], **picture.extra_info}
    return {"width": width, "height": height, "bands": bands, "pages": picture.pages, **colours}
