"""`OnnxSettings`: the models that a pool allows."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from offloop.errors import InvalidTask

from .onnx_model import OnnxModel
from .shipped_models import MODEL_DIRECTORY

__all__ = ["OnnxSettings"]


class OnnxSettings(msgspec.Struct, frozen=True):
    """Parameters of an `OnnxPlugin`, which reach its workers."""

    model_directories: tuple[str, ...] = ()
    """Absolute paths of the directories from which models may be loaded, beside the directory of the shipped models."""

    models: tuple[OnnxModel, ...] = ()
    """Models that a worker opens while it loads, so that no task waits for them."""

    def allowed_path(self, model: OnnxModel) -> Path:
        """Returns the real path of the model's file, links resolved.

        Raises:
            InvalidTask: the path lies in no allowed directory.
        """
        path = Path(os.path.realpath(model.path))
        directories = [Path(os.path.realpath(directory)) for directory in (MODEL_DIRECTORY, *self.model_directories)]
        if not any(path.is_relative_to(directory) for directory in directories):
            allowed = ", ".join(self.model_directories) or "none"
            raise InvalidTask(
                f"the model {model.path!r} is in no directory of OnnxPlugin(model_directories=...), which has: {allowed}"
            )
        return path
