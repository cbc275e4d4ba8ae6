"""RunModel: run an ONNX model of your own."""

from __future__ import annotations

from offloop.operation import Operation

from ..onnx_model import OnnxModel

__all__ = ["RunModel"]


class RunModel(Operation, frozen=True):
    """Runs a model once on a raster, and makes a raster of its output.

    By the model's `output`: alpha, logits: a grey picture of the source's sides and dtype. rgb: a picture of the model's size
    and the source's dtype. tensor: the output as it is, with its own shape and dtype.
    """

    model: OnnxModel
    """The model. Its file must lie in one of `OnnxPlugin(model_directories=...)`."""
