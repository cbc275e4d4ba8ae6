"""Sessions of ONNX Runtime: one per worker and model, kept until the worker ends.

A worker gives memory back and shares its CPUs: the session has no memory arena, because an arena keeps the peak of the largest
task, and its threads do not spin while they wait.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any, cast

import numpy as np
import onnxruntime

from offloop.errors import TaskFailed
from offloop.processor import Task

from ..onnx_model import OnnxModel
from ..pictures.picture import Samples
from ..settings import OnnxSettings
from ..shipped_models import SHIPPED_MODELS
from .model_files import read_model

__all__ = ["Session", "Sessions"]

_MAX_REOPEN_S = 0.1  # longest time in seconds for opening a session again, to give it another number of threads
_OUT_OF_MEMORY = ("bad_alloc", "Failed to allocate memory", "bad allocation", "Cannot allocate memory")
_DTYPES = {"tensor(float)": "f4", "tensor(float16)": "f2", "tensor(double)": "f8", "tensor(uint8)": "u1", "tensor(int32)": "i4",
           "tensor(int64)": "i8"}  # fmt: skip

runtime = cast("Any", onnxruntime)  # it has no types

_log = logging.getLogger("offloop_onnx")


class Sessions:
    """The open sessions of a worker, and the errors of models that could not be opened while the worker loaded."""

    def __init__(self, settings: OnnxSettings) -> None:
        self._settings = settings
        self._sessions: dict[OnnxModel, Session] = {}
        self._errors: dict[OnnxModel, TaskFailed] = {}

    def open_all(self) -> None:
        """Opens the shipped models and those of the settings. A model that cannot be opened fails the tasks that need it."""
        for model in (*SHIPPED_MODELS, *self._settings.models):
            try:
                self._open(model, threads=1)
            except TaskFailed as error:
                _log.error("the model %s cannot be opened: %s", model.name, error.message)
                self._errors[model] = error

    def get(self, model: OnnxModel, threads: int) -> Session:
        """Returns the session of a model. It computes with `threads` threads, unless opening it again takes too long.

        Raises:
            TaskFailed: "model_refused" or "model_broken".
            MemoryError: the model does not fit into the memory.
        """
        if model in self._errors:
            known = self._errors[model]
            raise TaskFailed(known.code, known.message)
        session = self._sessions.get(model)
        if session is None or (session.threads != threads and session.opening_s <= _MAX_REOPEN_S):
            session = self._open(model, threads)
        return session

    def _open(self, model: OnnxModel, threads: int) -> Session:
        self._sessions.pop(model, None)
        session = self._sessions[model] = Session(model, read_model(model, self._settings), threads)
        return session


class Session:
    """One open model."""

    def __init__(self, model: OnnxModel, data: bytes, threads: int) -> None:
        """Opens a model from the bytes of its file.

        Raises:
            TaskFailed: "model_broken" if it is no model, or does not have the declared input and output.
            MemoryError: the model does not fit into the memory.
        """
        started = monotonic()
        try:
            self._session = runtime.InferenceSession(data, _options(threads), providers=["CPUExecutionProvider"])
        except Exception as error:
            if _is_out_of_memory(error):
                raise MemoryError(str(error)) from None
            raise TaskFailed("model_broken", f"the model {model.name!r} cannot be opened: {_text(error)}") from None
        self.model, self.threads, self.opening_s = model, threads, monotonic() - started
        inputs, outputs = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        if len(inputs) != 1 or inputs[0].type not in _DTYPES:
            found = ", ".join(f"{put.name}: {put.type}" for put in inputs)
            raise TaskFailed(
                "model_broken", f"the model {model.name!r} has the inputs ({found}); expected one tensor of numbers"
            )
        if model.output_name is not None and model.output_name not in outputs:
            raise TaskFailed(
                "model_broken", f"the model {model.name!r} has no output {model.output_name!r}, but: {', '.join(outputs)}"
            )
        self._input, self._dtype = inputs[0].name, np.dtype(_DTYPES[inputs[0].type])
        self._output = model.output_name or outputs[0]

    def run(self, values: Samples, task: Task) -> Samples:
        """Runs the model on one input. Returns its output; all numbers in it are finite.

        Raises:
            TaskCancelled: the task was cancelled. ONNX Runtime stops between two nodes of the graph.
            TaskFailed: "model_failed" if the input does not suit the model, the run fails, or the output is not finite.
            MemoryError: an allocation failed.
        """
        task.checkpoint()
        options = runtime.RunOptions()  # new for each run, because `terminate` stays set

        def terminate() -> None:
            options.terminate = True

        failure: Exception
        try:
            with task.on_cancel(terminate):
                output = self._session.run([self._output], {self._input: values.astype(self._dtype, copy=False)}, options)[0]
        except Exception as error:
            task.checkpoint()  # raises TaskCancelled, because a terminated run fails with an ordinary error
            failure = MemoryError(_text(error)) if _is_out_of_memory(error) else self._failure(_text(error))
        else:
            if getattr(output, "dtype", np.dtype(object)).kind in "fiub":
                return self._checked(output)
            failure = self._failure(f"its output {self._output!r} is no tensor of numbers")
        raise failure

    def _checked(self, output: Samples) -> Samples:
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            raise self._failure(f"its output {self._output!r} has values that are not finite")
        return output

    def _failure(self, reason: str) -> TaskFailed:
        return TaskFailed("model_failed", f"the model {self.model.name!r} failed: {reason}")


def _options(threads: int) -> Any:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # fatal: everything else is an exception, too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def _text(error: Exception) -> str:
    return str(error).strip()[:500]
