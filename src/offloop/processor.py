"""What the author of a processor sees: payloads come in and go out, a task gives memory and tells of cancellation.

A processor is the heavy half of a plugin. It is imported in a worker, opened once, at the latest for the first task that needs
it, and then called for one task after another in one thread. It never sees a pipe, a segment or the server.

    class Blur:
        def open(self, worker): self.kernel = load_the_library()
        def run(self, payload, operations, task):
            out = task.allocate(payload.data.nbytes)      # result memory: nothing is copied afterwards
            with task.on_cancel(self.kernel.stop):        # called from another thread, until the block is left
                self.kernel.blur(payload.data, out, operations[0].sigma)
            return Raster(out, payload.shape, payload.dtype)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

import msgspec

from .operation import Operation

__all__ = ["Encoded", "Output", "Payload", "Processor", "Raster", "Task", "TaskCancelled", "WorkerContext"]


class Encoded(msgspec.Struct, frozen=True):
    """Bytes in a file format (or in none: any bytes)."""

    data: memoryview | bytes | bytearray
    """Read-only when it comes in; when it goes out, memory of `Task.allocate` or `Task.output` is not copied again."""

    info: Mapping[str, Any] = {}
    """What the user finds in `result.info`: JSON-like values. Only the last stage's info reaches the user."""


class Raster(msgspec.Struct, frozen=True):
    """Samples in memory: C-contiguous numbers. A picture has its rows from the top and its bands interleaved."""

    data: memoryview | bytes | bytearray
    """As many bytes as shape and dtype say; read-only when it comes in."""

    shape: tuple[int, ...]
    """1 to 8 sides. A picture is (height, width, bands), or (height, width) with one band; a processor that takes pictures only
    refuses other shapes with `InvalidTask`."""

    dtype: str
    """A numpy type string with its byte order, as in the array interface: "|u1", "<u2", "<f4"."""

    info: Mapping[str, Any] = {}
    """As in `Encoded`."""


Payload: TypeAlias = Encoded | Raster


class TaskCancelled(Exception):
    """Raised in a processor by `Task.checkpoint` (and `allocate`) once the task is to stop. Let it pass."""


class Output(Protocol):
    """Result memory of a length that is not known beforehand, as an encoder needs it."""

    def write(self, chunk: memoryview | bytes | bytearray) -> int:
        """Append the chunk (copied) and return its length; asks the server for more memory when what it has is full."""
        ...

    @property
    def view(self) -> memoryview:
        """What was written so far; the next `write` may move it."""
        ...


class Task(Protocol):
    """One task, as its processor sees it. Valid until `Processor.run` returns."""

    @property
    def cancelled(self) -> bool:
        """Whether the task is to stop: its time is over or nobody wants the result any more."""
        ...

    @property
    def threads(self) -> int:
        """How many threads the task may compute with: more than one where it is large and the other workers are idle."""
        ...

    def checkpoint(self) -> None:
        """Raise `TaskCancelled` if the task is to stop. For loops written in Python."""
        ...

    def on_cancel(self, callback: Callable[[], object]) -> AbstractContextManager[None]:
        """While the block runs, a cancellation calls `callback`: from another thread, and again every few milliseconds until
        the block is left, because some libraries forget a request to stop that comes before they start."""
        ...

    def allocate(self, nbytes: int) -> memoryview:
        """A writable block of result memory of exactly `nbytes`; pages are reserved, contents undefined.

        Raises:
            TaskCancelled: the task is to stop.
            TaskFailed: with the code "memory_limit", when the pool can never give that much.
        """
        ...

    def output(self, expected_nbytes: int = 0) -> Output:
        """Result memory that grows as it is written; at best `expected_nbytes` is right and it never has to."""
        ...

    def progress(self, fraction: float) -> None:
        """Note how far the task is, 0 to 1. Costs no message; it survives a crash of the worker and tells where it happened."""
        ...


class WorkerContext(Protocol):
    """What a processor may know of its worker when it is opened."""

    @property
    def slot(self) -> int:
        """The worker's place in the pool, from 0. A replacement has the same slot."""
        ...

    @property
    def settings(self) -> Any:
        """A struct equal to the `Plugin.settings` of the plugin that the pool was given; None if that has none."""
        ...

    def retire(self) -> None:
        """Have the worker replaced: it ends the task that it has, if any, and gets no other one. For a processor that has found
        its library in a bad state, or has leaked too much. May be called at any time after `open`, from the task's thread."""
        ...


class Processor(Protocol):
    """The heavy half of a plugin."""

    def open(self, worker: WorkerContext) -> None:
        """Load the library and set its limits. Once per worker, before its first task that needs this plugin."""
        ...

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        """Carry out consecutive operations of this plugin, in the order given.

        Raises:
            TaskFailed: with a code the caller can branch on. Any other exception becomes a `TaskFailed` with code "exception".
            InvalidTask: the operations make no sense for this payload.
        """
        ...
