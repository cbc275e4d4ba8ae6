"""Turns pictures into a model's input, and its output into masks and pictures."""

from __future__ import annotations

import numpy as np

from offloop.errors import TaskFailed

from ..onnx_model import OnnxModel
from ..pictures.picture import Floats, Samples

__all__ = ["alpha_of", "input_of", "rgb_of"]

_RGB = 3


def input_of(model: OnnxModel, colours: Floats) -> Samples:
    """Returns the input for colours of shape (rows, columns, 1 or 3)."""
    if colours.shape[-1] != _RGB:
        colours = np.repeat(colours, _RGB, axis=-1)
    values = colours * np.float32(model.input_range)
    if any(model.mean):
        values -= np.asarray(model.mean, np.float32)
    if model.std != (1.0, 1.0, 1.0):
        values /= np.asarray(model.std, np.float32)
    batch = values[None]
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2)) if model.input == "NCHW" else batch


def alpha_of(model: OnnxModel, output: Samples, rows: int, columns: int) -> Floats:
    """Returns the opacity, of shape (rows, columns), of an input of that size.

    Raises:
        TaskFailed: "model_failed", the output has another shape.
    """
    if output.size != rows * columns or (output.shape[-2:] != (rows, columns) and output.shape[-3:] != (rows, columns, 1)):
        raise _wrong_shape(model, output, f"{rows} x {columns} values")
    values = output.reshape(rows, columns).astype(np.float32)
    if model.output == "logits":
        return (1 / (1 + np.exp(-np.clip(values, -30, 30)))).astype(np.float32)
    return np.clip(values / np.float32(model.output_range), 0, 1)


def rgb_of(model: OnnxModel, output: Samples, rows: int, columns: int) -> Floats:
    """Returns the picture, of shape (rows, columns, 3).

    Raises:
        TaskFailed: "model_failed", the output has another shape.
    """
    layout = (_RGB, rows, columns) if model.input == "NCHW" else (rows, columns, _RGB)
    if output.shape not in (layout, (1, *layout)):
        raise _wrong_shape(model, output, f"a picture of {rows} x {columns} pixels, {model.input}")
    values = output.reshape(layout).astype(np.float32)
    if model.input == "NCHW":
        values = values.transpose(1, 2, 0)
    return values * np.float32(1 / model.output_range)


def _wrong_shape(model: OnnxModel, output: Samples, expected: str) -> TaskFailed:
    shape = tuple(int(side) for side in output.shape)
    return TaskFailed("model_failed", f"the model {model.name!r} made an output of shape {shape}; expected {expected}")
