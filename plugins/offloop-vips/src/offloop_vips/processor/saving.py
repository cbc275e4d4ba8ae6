"""From a picture to a payload, straight into result memory."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.processor import Encoded, Output, Raster, Task

from ..headers.formats import FORMATS
from ..operations import Encoder, Raw, avif, jpeg, png, webp
from ..picture import Picture

__all__ = ["save_encoded", "save_raster"]

_ENCODERS: dict[str, ModuleType] = {"avif": avif, "jpeg": jpeg, "png": png, "webp": webp}
_ORDER = "<" if sys.byteorder == "little" else ">"
_SAMPLES = {"uint8": ("uchar", "|u1", 1), "uint16": ("ushort", f"{_ORDER}u2", 2), "float32": ("float", f"{_ORDER}f4", 4)}


def save_encoded(picture: Picture, encoder: Encoder, task: Task) -> Encoded:
    """Encode a picture into memory of `task.output`.

    Raises:
        TaskFailed: "processing_failed" where the format cannot hold a picture of that size.
        InvalidTask: the format cannot hold several pages.
        pyvips.Error: the pixels could not be computed or encoded.
    """
    _check_format(picture, encoder)
    image = _ENCODERS[encoder.format].prepare(picture.image, encoder).copy()
    if picture.pages > 1:
        image.set_type(pyvips.GValue.gint_type, "page-height", picture.page_size.height)
    picture.evaluation.report(image)
    expected = int(image.width * image.height * image.bands * encoder.typical_ratio)
    sink, target = _Sink(task.output(expected)), pyvips.TargetCustom()
    target.on_write(sink.write)  # the sink must not hold the target in turn, or result memory waits for a garbage collection
    try:
        _ENCODERS[encoder.format].save(image, encoder, target)
    except pyvips.Error:
        if sink.error is None:
            raise
    if sink.error is not None:
        raise sink.error
    form = FORMATS[encoder.format]
    return Encoded(sink.output.view, {"media_type": form.media_type, "format": encoder.format, **_info(picture, image.bands)})


def save_raster(picture: Picture, raw: Raw, task: Task) -> Raster:
    """Have libvips compute a picture in a block of `task.allocate`."""
    form, dtype, itemsize = _SAMPLES[raw.dtype]
    image = picture.evaluation.report(picture.image.cast(form).copy())
    shape = (image.height, image.width, image.bands)
    block = task.allocate(image.height * image.width * image.bands * itemsize)
    image.write(pyvips.Image.new_from_memory(block[:], image.width, image.height, image.bands, form))
    info = {"media_type": "application/octet-stream", "format": "raw", "dtype": raw.dtype, **_info(picture, image.bands)}
    return Raster(block, shape, dtype, info)


class _Sink:
    """Appends to result memory. libvips, which calls it, knows no exceptions, so the first one is kept for later."""

    def __init__(self, output: Output) -> None:
        self.output = output
        self.error: BaseException | None = None

    def write(self, chunk: Any) -> int:
        if self.error is not None:
            return -1
        try:
            return self.output.write(memoryview(chunk))
        except BaseException as error:  # whatever it is, it is raised again as soon as libvips has returned
            self.error = _without_frames(error)
            return -1


def _without_frames(error: BaseException) -> BaseException:
    """The error, cut off from where it happened: inside of libvips' call, whose frames would hold the image as long."""
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__context__
    return error


def _check_format(picture: Picture, encoder: Encoder) -> None:
    if picture.pages > 1 and not encoder.holds_pages:
        name = type(encoder).__name__
        raise InvalidTask(f"{name} makes files of one page, and Decode read {picture.pages}; use Webp, or Raw for all samples")
    width, height = picture.page_size
    most = FORMATS[encoder.format].max_side
    if max(width, height) > most:
        what = f"{width} x {height} pixels do not fit into {encoder.format}, which holds {most:,} a side at most"
        raise TaskFailed("processing_failed", what)


def _info(picture: Picture, bands: int) -> dict[str, Any]:
    width, height = picture.page_size
    return {"width": width, "height": height, "bands": bands, "pages": picture.pages, **picture.facts}
