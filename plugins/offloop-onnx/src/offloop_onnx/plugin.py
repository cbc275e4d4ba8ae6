"""The light half of the plugin, for the server: it must import neither onnxruntime nor numpy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

from offloop.errors import InvalidTask
from offloop.operation import Estimate, Header, Operation, Plugin, SourceHeader, describe
from offloop.sandbox import Needs

from . import operations
from .estimates import estimate, source_after
from .onnx_model import OnnxModel
from .settings import OnnxSettings
from .shipped_models import MODEL_DIRECTORY

__all__ = ["OnnxPlugin"]


class OnnxPlugin(Plugin):
    """Operations by neural networks."""

    name: ClassVar[str] = "onnx"
    operations: ClassVar[tuple[type[Operation], ...]] = (
        operations.RemoveBackground,
        operations.Restore,
        operations.Upscale,
        operations.RunModel,
    )
    processor: ClassVar[str] = "offloop_onnx.processor:OnnxProcessor"
    quick: ClassVar[bool] = True  # an estimate takes some microseconds, and there is no probe
    group = "onnx"  # the worker group, because a worker with these models is larger than a worker without
    companions = ("vips",)  # plugins beside this one in a worker of the group, so that one task can decode, cut out and encode

    def __init__(
        self,
        *,
        model_directories: Sequence[str | os.PathLike[str]] = (),
        models: Sequence[OnnxModel] = (),
    ) -> None:
        """Make a plugin that allows more models than the shipped ones.

        Args:
            model_directories: directories from which models may be loaded. A relative path is taken from the current directory.
            models: models that every worker opens while it loads, so that no task waits for them. Other models from the
                directories are opened by the first task that needs them.

        Raises:
            InvalidTask: a model of `models` lies in none of the directories.
        """
        if model_directories or models:
            directories = tuple(os.path.abspath(directory) for directory in model_directories)
            settings = self.settings = OnnxSettings(directories, tuple(models))
            for model in models:
                settings.allowed_path(model)

    @property
    def needs(self) -> Needs:  # pyright: ignore[reportIncompatibleVariableOverride] (a property is allowed)
        """The directories of the models, because a worker opens a model when the first task needs it."""
        settings = self.settings if isinstance(self.settings, OnnxSettings) else OnnxSettings()
        return Needs(read=(str(MODEL_DIRECTORY), *settings.model_directories))

    def check(self, operations: Sequence[Operation]) -> None:
        """Checks that each model lies in an allowed directory, and that an operation on pictures does not follow a tensor.

        Raises:
            InvalidTask: it does not. The message names the operation.
        """
        settings = self.settings if isinstance(self.settings, OnnxSettings) else OnnxSettings()
        for index, operation in enumerate(operations):
            model = getattr(operation, "model", None)
            if not isinstance(model, OnnxModel):
                continue
            settings.allowed_path(model)
            if model.output == "tensor" and index + 1 < len(operations):
                following = describe(operations[index + 1])
                raise InvalidTask(f"RunModel(model={model.name!r}) makes no picture, but {following} comes after it")

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
        """Estimates memory, time and output size from the models and the size of the picture.

        Returns:
            None if a model has no `peak_bytes`.
        """
        return estimate(header, operations, nbytes)

    def source_after(self, source: SourceHeader, operations: Sequence[Operation]) -> SourceHeader:
        """Predicts the picture that the operations make. Nothing is known of the output of a `RunModel`."""
        return source_after(source, operations)
