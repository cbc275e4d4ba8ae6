"""Runs a processor in this process, without a pool, for the unit tests of a plugin.

`InlineTask` implements the whole contract of `offloop.processor.Task`. The contract tests run on it and on the worker's task.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from msgspec.structs import replace

from ..operation import Operation
from ..processor import Payload, Processor, TaskCancelled
from ..worker.result_checks import check_memory, check_payload, checked_info

__all__ = ["InlineTask", "run_inline"]


class InlineOutput:
    """Growing result memory in a bytearray."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def write(self, chunk: memoryview | bytes | bytearray) -> int:
        self._buffer += chunk
        return len(chunk)

    @property
    def view(self) -> memoryview:
        return memoryview(bytes(self._buffer))


class InlineTask:
    """A task without a pool. `cancel()` cancels it as a deadline would."""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self.fraction = 0.0  # last reported progress, from 0 to 1
        self._cancelled = False
        self._callbacks: list[Callable[[], object]] = []

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Tell the task to stop. May be called from any thread."""
        self._cancelled = True
        for callback in tuple(self._callbacks):
            callback()

    def checkpoint(self) -> None:
        if self._cancelled:
            raise TaskCancelled

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Generator[None]:
        self._callbacks.append(callback)
        if self._cancelled:
            callback()
        try:
            yield
        finally:
            self._callbacks.remove(callback)

    def allocate(self, nbytes: int) -> memoryview:
        self.checkpoint()
        return memoryview(bytearray(nbytes))

    def output(self, expected_nbytes: int = 0) -> InlineOutput:  # noqa: ARG002 (a bytearray needs no hint)
        return InlineOutput()

    def progress(self, fraction: float) -> None:
        self.fraction = fraction


class _InlineWorker:
    slot = 0

    def __init__(self, settings: object) -> None:
        self.settings = settings

    def retire(self) -> None:
        pass


def run_inline(processor: Processor, payload: Payload, operations: Sequence[Operation], *, settings: object = None) -> Payload:
    """Open the processor with the settings of its plugin, and run the operations on the payload in this process. Returns the
    result.

    Raises:
        PluginError: a worker would refuse the result, because it is not a payload, its memory does not match its shape and
            dtype, or its info cannot be sent.
    """
    processor.open(_InlineWorker(settings))
    result = processor.run(payload, operations, InlineTask())
    plugin = type(processor).__name__
    check_payload(plugin, result)
    check_memory(plugin, result)
    return replace(result, info=checked_info(plugin, result))
