"""Turns pictures into a model's input, and its output into masks and pictures."""

from __future__ import annotations

import numpy as np

from offloop.errors import TaskFailed
from offloop.processor import Task

from ..onnx_model import OnnxModel
from ..pictures.picture import Floats, Samples
from .sessions import Session

__all__ = ["alpha_of", "find_alpha", "input_of", "rgb_of"]

_RGB = 3


def input_of(model: OnnxModel, colours: Floats) -> Samples:
    """Returns the input for colours of shape (1 or 3, rows, columns)."""
    if len(colours) != _RGB:
        colours = np.repeat(colours, _RGB, axis=0)
    values = colours * np.float32(model.input_range)
    if any(model.mean):
        values -= np.asarray(model.mean, np.float32)[:, None, None]
    if model.std != (1.0, 1.0, 1.0):
        values /= np.asarray(model.std, np.float32)[:, None, None]
    return values[None] if model.input == "NCHW" else np.ascontiguousarray(values.transpose(1, 2, 0))[None]


def find_alpha(session: Session, colours: Floats, task: Task) -> Floats:
    """Runs a model that finds the foreground. Returns the opacity, of shape (rows, columns), of an input of that size.

    Raises:
        TaskCancelled: the task was cancelled.
        TaskFailed: "model_failed".
    """
    model, (rows, columns) = session.model, colours.shape[1:]
    alpha = alpha_of(model, session.run(input_of(model, colours), task), rows, columns)
    if not model.mirrored:
        return alpha
    other = alpha_of(model, session.run(input_of(model, colours[..., ::-1]), task), rows, columns)
    return (alpha + other[:, ::-1]) / 2


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
