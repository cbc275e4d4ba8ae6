"""Reads model files: only from allowed directories, and only with the right digest."""

from __future__ import annotations

import hashlib
import os
import stat

from offloop.errors import InvalidTask, TaskFailed

from ..onnx_model import OnnxModel
from ..settings import OnnxSettings

__all__ = ["read_model"]


def read_model(model: OnnxModel, settings: OnnxSettings) -> bytes:
    """Returns the bytes of a model's file. They are read once, so that exactly the bytes that were checked are loaded.

    Raises:
        TaskFailed: "model_refused" if the file is in no allowed directory, cannot be read, or has another digest.
    """
    try:
        path = settings.allowed_path(model)
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise TaskFailed("model_refused", f"the model {model.path!r} is not a regular file")
            data = file.read()
    except InvalidTask as error:
        raise TaskFailed("model_refused", str(error)) from None
    except OSError as error:
        raise TaskFailed("model_refused", f"the model {model.path!r} cannot be read: {error.strerror}") from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != model.sha256:
        raise TaskFailed("model_refused", f"the model {model.path!r} has the sha256 {digest}, but {model.sha256} was asked for")
    return data
