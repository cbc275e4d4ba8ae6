"""Result of a task: a view of shared memory, the plugin's information, and timings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import msgspec

from ..core.model.blocks import Block
from ..core.model.task import TaskOutput
from ..errors import InvalidTask
from ..runtime.files.output_files import OutputFile, destination_path
from ..wire.handles import RasterAt, WrittenTo

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Info", "Result", "Timings"]


class Timings(msgspec.Struct, frozen=True):
    """Times of a task's submission, start and end, in seconds of the system's monotonic clock (`time.monotonic()`)."""

    queued: float
    """Time at which the task was submitted."""

    started: float
    """Time at which a worker began the task, after its source was copied and a worker was free."""

    finished: float
    """Time at which the worker finished, before its answer was sent to the server."""

    @property
    def waited(self) -> float:
        """Seconds between submission and start."""
        return self.started - self.queued

    @property
    def ran(self) -> float:
        """Seconds between start and end, in the worker."""
        return self.finished - self.started

    def to_dict(self) -> dict[str, float]:
        """The three times, `waited` and `ran`, in seconds, as plain JSON types."""
        return {**msgspec.to_builtins(self), "waited": self.waited, "ran": self.ran}


class Info(Mapping[str, Any]):
    """The plugin's information about a result, by key or by attribute: `result.info.width`."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def to_dict(self) -> dict[str, Any]:
        """The entries as plain JSON types."""
        return msgspec.to_builtins(dict(self._values))

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"this result has no {name!r}; it has: {', '.join(self._values) or 'nothing'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Info({', '.join(f'{key}={value!r}' for key, value in self._values.items())})"


class Result:
    """Result of a successful task.

    Its memory is shared memory of the pool. It stays valid as long as an object refers to it, also after the pool was
    closed, and is returned to the pool when the last view of it (a slice, a numpy array) is deleted. `bytes(result)` makes a
    copy outside the pool's memory.
    """

    __slots__ = ("_output", "_queued", "data", "path")

    def __init__(self, output: TaskOutput, view: memoryview | None, queued: float, path: Path | None) -> None:
        self._output = output
        self._queued = queued
        self.data: memoryview = memoryview(b"") if view is None else view
        """The result's bytes, read-only, in place. Empty when the result was written to a file."""
        self.path = path
        """Path of the file that the worker wrote, if the task had a `to`; otherwise None."""

    @property
    def info(self) -> Info:
        """The plugin's information about the result: media_type, width, height, ..."""
        return Info(self._output.info)

    @property
    def raw_info(self) -> Mapping[str, Any]:
        """The entries of `info` as a dictionary. For the pool's own use."""
        return self._output.info

    @property
    def timings(self) -> Timings:
        """Times at which the task was submitted, started and finished."""
        return Timings(self._queued, self._output.started_ns / 1e9, self._output.finished_ns / 1e9)

    @property
    def nbytes(self) -> int:
        """Length of the result in bytes, in memory or in its file."""
        output = self._output.output
        return output.nbytes if isinstance(output, WrittenTo) else self.data.nbytes

    def shared(self, queued: float) -> Result:
        """Another result over the same memory, with its own time of submission. For the pool's own use."""
        return Result(self._output, self.data[:], queued, self.path)

    @property
    def block(self) -> Block | None:
        """The block of shared memory that `data` lies in. For the pool's own use."""
        return self._output.block

    @property
    def raster(self) -> RasterAt | None:
        """Shape and dtype of samples; None for encoded bytes or a file. For the pool's own use; users call `array()`."""
        output = self._output.output
        return output if isinstance(output, RasterAt) else None

    def array(self) -> np.ndarray[Any, Any]:
        """A read-only ndarray over the result's memory, without a copy, with the shape and dtype that the plugin gave it.

        Raises:
            InvalidTask: the result is encoded bytes or a file; end the pipeline with `Raw()`.
            ImportError: numpy is not installed.
        """
        raster = self.raster
        if raster is None:
            raise InvalidTask("only samples make an array, and this result has none: end the pipeline with Raw()")
        import numpy as np  # noqa: PLC0415 (only servers that ask for arrays import numpy)

        return np.frombuffer(self.data, dtype=raster.dtype).reshape(raster.shape)

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result into a file, in a thread: completely or not at all. Returns its absolute path.

        An existing file is replaced and keeps its mode; a symbolic link is replaced and not followed. It works after the pool
        was closed, too. If the call is cancelled while a thread writes, the file is written nevertheless.

        Raises:
            InvalidTask: the path cannot be that of a file, or the result lies in a file already (`to=`).
            TaskFailed: with the code "cannot_write": the directory does not exist, cannot be written to, or is full.
        """
        if self.path is not None:
            raise InvalidTask(f"the result is in the file {str(self.path)!r} already; copy or move that")
        file = OutputFile(destination_path(path))
        await anyio.to_thread.run_sync(file.write, self.data[:])
        return Path(file.path)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def __len__(self) -> int:
        return self.nbytes

    def __repr__(self) -> str:
        where = f"to {str(self.path)!r}" if self.path else "in shared memory"
        return f"<Result: {self.nbytes:,} bytes {where}, {self.info!r}>"
