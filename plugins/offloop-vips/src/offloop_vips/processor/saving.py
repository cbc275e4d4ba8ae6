"""Saver: encodes a picture, or computes its samples, directly into result memory."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.processor import Encoded, Output, Raster, Task

from ..headers.formats import FORMATS
from ..headers.webp_frames import read_webp_frames
from ..operations import Encoder, Raw, avif, jpeg, png, webp
from ..picture import Image, Picture

__all__ = ["save_encoded", "save_raster"]

_ENCODERS: dict[str, ModuleType] = {"avif": avif, "jpeg": jpeg, "png": png, "webp": webp}
_ITEM_NBYTES = {"uchar": 1, "ushort": 2}
_ORDER = "<" if sys.byteorder == "little" else ">"
# dtype of Raw -> libvips band format, array interface dtype, bytes of one sample
_SAMPLES = {
    "uint8": ("uchar", "|u1", 1),
    "uint16": ("ushort", f"{_ORDER}u2", 2),
    "float32": ("float", f"{_ORDER}f4", 4),
}


def save_encoded(picture: Picture, encoder: Encoder, task: Task) -> Encoded:
    """Encodes a picture into memory of `task.output`.

    Raises:
        TaskFailed: "processing_failed" if the format cannot hold a picture of this size.
        InvalidTask: the format cannot hold several pages.
        pyvips.Error: the pixels could not be computed or encoded.
    """
    _check_fits_format(picture, encoder)
    picture = _ENCODERS[encoder.format].prepare(picture, encoder)
    image = picture.image.copy()
    if picture.pages > 1:
        image.set_type(pyvips.GValue.gint_type, "page-height", picture.page_size.height)
    picture.evaluation.report_progress(image)
    expected = int(image.width * image.height * image.bands * _ITEM_NBYTES[image.format] * encoder.typical_ratio)
    writer, target = _OutputWriter(task.output(expected)), pyvips.TargetCustom()
    target.on_write(writer.write)  # the writer must not refer to the target, because a cycle would keep result memory alive
    try:
        _ENCODERS[encoder.format].save(image, encoder, target)
    except pyvips.Error:
        if writer.error is None:
            raise
    if writer.error is not None:
        raise writer.error
    file_format = FORMATS[encoder.format]
    info = {"media_type": file_format.media_type, "format": encoder.format, **_info(picture, image.bands)}
    if picture.pages > 1:
        info |= _frames(writer.output.view)
    return Encoded(writer.output.view, info)


def save_raster(picture: Picture, raw: Raw, task: Task) -> Raster:
    """Computes a picture into a block of `task.allocate`."""
    band_format, dtype, itemsize = _SAMPLES[raw.dtype]
    image = picture.evaluation.report_progress(_samples(picture, raw).copy())
    shape = (image.height, image.width, image.bands)
    block = task.allocate(image.height * image.width * image.bands * itemsize)
    image.write(pyvips.Image.new_from_memory(block[:], image.width, image.height, image.bands, band_format))
    info = {"media_type": "application/octet-stream", "format": "raw", "dtype": raw.dtype, **_info(picture, image.bands)}
    return Raster(block, shape, dtype, info)


def _samples(picture: Picture, raw: Raw) -> Image:
    if raw.dtype != "float32":
        return picture.with_depth(16 if raw.dtype == "uint16" else 8).image
    image = picture.straight().image
    return image.linear(1 / 257, 0) if picture.is_deep else image.cast("float")


class _OutputWriter:
    """Write callback of libvips that appends to result memory. It keeps the first exception, because C code calls it."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.error: BaseException | None = None

    def write(self, chunk: Any) -> int:
        if self.error is not None:
            return -1
        try:
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
        raise InvalidTask(f"{name} makes files of one page, but Decode read {picture.pages}; use Webp, or Raw for all samples")
    width, height = picture.page_size
    max_side = FORMATS[encoder.format].max_side
    if max(width, height) > max_side:
        message = f"{width} x {height} pixels do not fit into {encoder.format}, the limit is {max_side:,} a side"
        raise TaskFailed("processing_failed", message)


def _frames(webp: memoryview) -> dict[str, Any]:
    frames = read_webp_frames(webp)
    if frames is None:  # because all pages were equal
        return {"pages": 1}
    return {"pages": len(frames.durations_ms), "durations_ms": frames.durations_ms, "loop": frames.loop}


def _info(picture: Picture, bands: int) -> dict[str, Any]:
    width, height = picture.page_size
    return {"width": width, "height": height, "bands": bands, "pages": picture.pages, **picture.extra_info}
