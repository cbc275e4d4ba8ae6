"""Carries out `RunModel`: one run of a model of the user, on the whole source."""

from __future__ import annotations

import sys

import numpy as np

from offloop.errors import InvalidTask
from offloop.processor import Encoded, Payload, Raster, Task

from ..pictures.picture import Floats, Picture, Samples, allocate_picture, raster_of, strips, to_samples
from ..pictures.resampling import BilinearMap, reduce_picture, resize
from .model_io import find_opacity, input_of, rgb_of
from .sessions import Session

__all__ = ["run_model"]


def run_model(payload: Payload, session: Session, task: Task) -> Raster:
    """Returns the model's output for a raster, in result memory.

    Raises:
        InvalidTask: the payload is no raster, or no picture although the model takes one.
        TaskFailed: "model_failed".
    """
    model = session.model
    task.add_info(model.card)
    if model.input == "tensor":
        if isinstance(payload, Encoded):
            raise InvalidTask(f"the model {model.name!r} takes a raster as it is, but the source is encoded")
        values: Samples = np.frombuffer(payload.data, payload.dtype).reshape(payload.shape)
        return _tensor(session.run(values, task), task)
    picture = Picture.of(payload)
    rows, columns = model.size or (-(-side // model.multiple) * model.multiple for side in (picture.height, picture.width))
    colours = _fitted(picture, session, rows, columns, task)
    if model.is_matting:
        return _mask(find_opacity(session, colours, task).alpha, picture, session, task)
    output = session.run(input_of(model, colours), task)
    if model.output == "tensor":
        return _tensor(output, task)
    values = rgb_of(model, output, rows * model.scale, columns * model.scale)
    if model.size is None:  # what was added to reach a multiple
        values = values[: picture.height * model.scale, : picture.width * model.scale]
    block, result = allocate_picture(task, values.shape[0], values.shape[1], 3, picture.samples.dtype.str)
    to_samples(values, result, picture.white)
    return raster_of(block, result)


def _fitted(picture: Picture, session: Session, rows: int, columns: int, task: Task) -> Floats:
    """Returns the colours at the size of the model's input, of shape (colours, rows, columns)."""
    if session.model.size is not None:
        factor = max(min(picture.height // (2 * rows), picture.width // (2 * columns)), 1)
        return resize(reduce_picture(picture, factor, task), rows, columns)
    colours = reduce_picture(picture, 1, task)
    padding = ((0, 0), (0, rows - picture.height), (0, columns - picture.width))
    return np.pad(colours, padding, mode="edge")


def _mask(alpha: Floats, picture: Picture, session: Session, task: Task) -> Raster:
    if session.model.size is None:
        alpha = alpha[: picture.height, : picture.width]
    enlarged = BilinearMap(alpha[None], picture.height, picture.width)
    block, result = allocate_picture(task, picture.height, picture.width, 1, picture.samples.dtype.str)
    for top, bottom in strips(picture.height, picture.width):
        task.checkpoint()
        to_samples(enlarged.rows(top, bottom)[0, ..., None], result[top:bottom], picture.white)
    return raster_of(block, result)


def _tensor(output: Samples, task: Task) -> Raster:
    """Returns any output as a raster."""
    values: Samples = np.ascontiguousarray(output.astype("u1") if output.dtype.kind == "b" else output)
    if values.ndim == 0:
        values = values.reshape(1)
    block = task.allocate(values.nbytes)
    block[:] = memoryview(values).cast("B")
    dtype = values.dtype.newbyteorder("<" if sys.byteorder == "little" else ">").str
    return Raster(block, values.shape, dtype, {"media_type": "application/octet-stream", "format": "raw"})
