"""Contracts for the authors of processors: payloads, the task, the worker, and the processor itself.

A processor carries out the operations of a plugin. It is imported in a worker only, opened once, before the first task that
needs it, and then runs one task after another in one thread. It has no access to the socket, the segments or the server.

    class Blur:
        def open(self, worker): self.kernel = load_the_library()
        def run(self, payload, operations, task):
            out = task.allocate(payload.data.nbytes)      # result memory: nothing is copied afterwards
            with task.on_cancel(self.kernel.stop):        # called from another thread, until the block ends
                self.kernel.blur(payload.data, out, operations[0].sigma)
            return Raster(out, payload.shape, payload.dtype)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import msgspec

from .operation import Operation

__all__ = ["Encoded", "Output", "Payload", "Processor", "Raster", "SharingProcessor", "Task", "TaskCancelled", "WorkerContext"]


class Encoded(msgspec.Struct, frozen=True):
    """Bytes of a file format, or any bytes."""

    data: memoryview | bytes | bytearray
    """The bytes. A processor's input is read-only. Output in memory of `Task.allocate` or `Task.output` is not copied again."""

    info: Mapping[str, Any] = {}
    """Values for the user's `result.info`: JSON-like. Only the last stage's reach the user; see `Task.add_info` for others."""


class Raster(msgspec.Struct, frozen=True):
    """C-contiguous samples. The rows of a picture start at the top, and its bands are interleaved."""

    data: memoryview | bytes | bytearray
    """The samples, as many bytes as shape and dtype require. A processor's input is read-only."""

    shape: tuple[int, ...]
    """Number of samples along each of 1 to 8 sides. A picture is (height, width, bands), or (height, width) with one band. A
    processor that accepts only pictures refuses other shapes with `InvalidTask`."""

    dtype: str
    """Numpy type string with byte order, as in the array interface: "|u1", "<u2", "<f4"."""

    info: Mapping[str, Any] = {}
    """Values for the user's `result.info`, as in `Encoded`."""

    profile: bytes = b""
    """ICC profile of the colours, for the plugin of a later stage; empty: they are sRGB, or grey. A processor that makes a
    picture in the same colours passes it on."""


Payload: TypeAlias = Encoded | Raster


class TaskCancelled(Exception):
    """The task has to stop. `Task.checkpoint` and `Task.allocate` raise it in a processor, which must not catch it."""


class Output(Protocol):
    """Result memory that grows, for an encoder that does not know the length of its output."""

    def write(self, chunk: memoryview | bytes | bytearray) -> int:
        """Append a copy of the chunk. Returns its length. Requests more memory from the server when the memory is full."""
        ...

    @property
    def view(self) -> memoryview:
        """The bytes written so far. The next `write` may move them."""
        ...


class Task(Protocol):
    """The task, for its processor. Valid until `Processor.run` returns."""

    @property
    def cancelled(self) -> bool:
        """Whether the task has to stop, because its time is over or its caller cancelled it."""
        ...

    @property
    def threads(self) -> int:
        """Maximum number of threads that the task may compute with. More than one if it is large and other workers are idle."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels that the caller gave the task, by name. Lines that are printed or logged during the task have them anyway."""
        ...

    @property
    def sources(self) -> Sequence[Payload]:
        """All sources of the task, as a processor gets the first one: read-only, valid until the end of the task.

        `sources[0]` is the source that was given to the call; the first stage gets it as its payload. An operation with an
        `Attachment` finds its own at `sources[operation.field.index]`. Empty sources are `Encoded` or `Raster` of zero bytes.
        """
        ...

    @property
    def is_last_stage(self) -> bool:
        """Whether the pipeline ends with the operations of this call. If not, another plugin gets the returned payload."""
        ...

    def checkpoint(self) -> None:
        """Raise `TaskCancelled` if the task has to stop. For loops written in Python."""
        ...

    def on_cancel(self, callback: Callable[[], object]) -> AbstractContextManager[None]:
        """Returns a context manager. If the task is cancelled inside its block, another thread calls `callback`, again every
        few milliseconds until the block ends, because some libraries forget a request to stop that comes before they start."""
        ...

    def allocate(self, nbytes: int) -> memoryview:
        """Returns a writable block of exactly `nbytes` bytes of result memory. Its pages are reserved, its contents undefined.

        Raises:
            TaskCancelled: the task has to stop.
            TaskFailed: the pool can never grant that much; the code is "memory_limit".
        """
        ...

    def output(self, expected_nbytes: int = 0) -> Output:
        """Returns result memory that grows when it is written. If `expected_nbytes` is large enough, it never has to grow."""
        ...

    def emit(self, payload: Payload, name: str | None = None) -> bool:
        """Hand over an output before the end of the task: a frame of a stream.

        The stages that follow in the pipeline are applied to it first. Waits while the receiver has no room for another
        output. Memory of `allocate` or `output` is not copied, and belongs to the receiver afterwards: do not write to it.

        Returns:
            False, and does nothing, if the caller of the task receives only its result.

        Raises:
            TaskCancelled: the task has to stop.
            PluginError: the payload, or its info, cannot be sent.
        """
        ...

    @property
    def wants_preview(self) -> bool:
        """Whether `preview` hands over a preview. If not, the processor need not make one."""
        ...

    def preview(self, payload: Payload, pipeline: int | None = None) -> bool:
        """Hand over a preview: a small version of the result, before it is ready. For operations with `Operation.previews`.

        The stages that follow in the pipeline are not applied to it. Never waits for the receiver. Memory of `allocate` or
        `output` is not copied, and belongs to the receiver afterwards: do not write to it.

        Args:
            payload: the preview, usually encoded.
            pipeline: in `SharingProcessor.run_many` the index of the pipeline; None otherwise.

        Returns:
            False, and does nothing, if the caller of the task receives no previews, or has received all of this task.

        Raises:
            TaskCancelled: the task has to stop.
            PluginError: the payload, or its info, cannot be sent.
        """
        ...

    def add_info(self, info: Mapping[str, Any]) -> None:
        """Add values to the info of the result, and of outputs before it, whichever stage makes them: how it was made, and not
        what it is. Of equal keys, that of the output's own info counts. In `SharingProcessor.run_many`, for all pipelines."""
        ...

    def progress(self, fraction: float) -> None:
        """Report the progress of the task, from 0 to 1. It sends no message, and is in the crash report if the worker dies."""
        ...


class WorkerContext(Protocol):
    """The worker of a processor, as an argument of `Processor.open`."""

    @property
    def slot(self) -> int:
        """Index of the worker's slot in the pool, from 0. A replacement has the same slot."""
        ...

    @property
    def settings(self) -> Any:
        """A struct equal to `Plugin.settings` of the pool's plugin; None if the plugin has no settings."""
        ...

    def retire(self) -> None:
        """Request that the worker is replaced: it finishes its current task, and gets no other. For a processor whose library
        is in a bad state or leaks too much. May be called at any time after `open`, from the task's thread."""
        ...


class SharingProcessor(Protocol):
    """A processor that can share work, such as a decode, between several pipelines on the same source."""

    def run_many(
        self, payload: Payload, pipelines: Sequence[Sequence[Operation]], task: Task
    ) -> Iterable[tuple[int, Payload | Exception]]:
        """Carry out several pipelines of this plugin on one payload.

        Yields:
            The index of a pipeline, and its result or its error, as soon as it is ready, in any order. The failure of one
            pipeline does not concern the others. An exception that is raised is the failure of all pipelines that are left.
        """
        ...


class Processor(Protocol):
    """Carries out the operations of a plugin in a worker."""

    def open(self, worker: WorkerContext) -> None:
        """Load the library and set its limits. Called once per worker, before its first task that needs this plugin."""
        ...

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload | None:
        """Carry out consecutive operations of this plugin, in the given order. Returns the last output.

        None is allowed if `Task.emit` has handed over all outputs of the task.

        Raises:
            TaskFailed: the task cannot be carried out. Callers can branch on its code. Any other exception becomes a
                `TaskFailed` with the code "exception".
            InvalidTask: the operations are not possible for this payload.
        """
        ...
