"""`OnnxProcessor`: runs model operations in a worker."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from offloop.errors import InvalidTask
from offloop.operation import Operation, describe
from offloop.processor import Payload, Raster, Task, WorkerContext

from ..operations import RemoveBackground, Restore, RunModel, Upscale
from ..pictures.picture import Picture
from ..settings import OnnxSettings
from .background_removal import remove_background
from .heap import heap_reused
from .model_run import run_model
from .sessions import Session, Sessions
from .upscaling import upscale

__all__ = ["OnnxProcessor"]


class OnnxProcessor:
    """Runs the operations of offloop-onnx, one task at a time."""

    def open(self, worker: WorkerContext) -> None:
        """Opens the models, so that no task waits for them."""
        self._sessions = Sessions(worker.settings or OnnxSettings())
        self._sessions.open_all()

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        """Runs the operations on a raster, one after another.

        Raises:
            TaskFailed: "model_refused", "model_broken" or "model_failed".
            InvalidTask: the payload is no raster that the operation can take.
            TaskCancelled: the task was cancelled.
            MemoryError: an allocation failed.
        """
        profile = payload.profile if isinstance(payload, Raster) else b""
        for operation in operations:
            payload = self._run(payload, operation, task)
        return replace(payload, profile=profile) if profile else payload

    def _run(self, payload: Payload, operation: Operation, task: Task) -> Raster:
        match operation:
            case RemoveBackground():
                with heap_reused():  # not for the others, whose blocks are large and few
                    return remove_background(Picture.of(payload), operation, self._session(operation, task), task)
            case Upscale() | Restore():
                return upscale(Picture.of(payload), operation, self._session(operation, task), task)
            case RunModel():
                return run_model(payload, self._sessions.get(operation.model, task.threads), task)
            case _:
                raise InvalidTask(f"{describe(operation)} is not an operation of offloop-onnx")

    def _session(self, operation: RemoveBackground | Restore | Upscale, task: Task) -> Session:
        return self._sessions.get(operation.onnx_model, task.threads)
