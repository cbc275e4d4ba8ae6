"""Turns pictures into a model's input, and its output into masks and pictures."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from offloop.errors import TaskFailed
from offloop.processor import Task

from ..onnx_model import OnnxModel
from ..pictures.picture import Floats, Samples
from .sessions import Session

__all__ = ["Opacity", "alpha_of", "find_alpha", "find_opacity", "input_of", "rgb_of"]

_RGB = 3
_LEAST_OPACITY = 0.001  # mean opacity below which there is no foreground on which two results could disagree


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


class Opacity(NamedTuple):
    """Opacity of each pixel, as a model has found it."""

    alpha: Floats  # shape (rows, columns)
    disagreement: float  # difference of the results for a picture and its mirror image, as a part of the opacity; 0: one run


def find_opacity(session: Session, colours: Floats, task: Task) -> Opacity:
    """Runs a model that finds the foreground on an input of its size, and on its mirror image if the model is `mirrored`.

    Raises:
        TaskCancelled: the task was cancelled.
        TaskFailed: "model_failed".
    """
    alpha = find_alpha(session, colours, task)
    if not session.model.mirrored:
        return Opacity(alpha, 0.0)
    other = find_alpha(session, colours[..., ::-1], task)[:, ::-1]
    mean = (alpha + other) / 2
    return Opacity(mean, float(np.abs(alpha - other).sum()) / max(float(mean.sum()), _LEAST_OPACITY * mean.size))


def find_alpha(session: Session, colours: Floats, task: Task) -> Floats:
    """Runs a model that finds the foreground once. Returns the opacity, of shape (rows, columns), of an input of that size.

    Raises:
        TaskCancelled: the task was cancelled.
        TaskFailed: "model_failed".
    """
    rows, columns = colours.shape[1:]
    return alpha_of(session.model, session.run(input_of(session.model, colours), task), rows, columns)


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
