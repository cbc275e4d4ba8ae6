"""The task as its processor sees it, in a real worker: `offloop.processor.Task` over granted memory and the channel."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from ..errors import TaskFailed
from ..processor import TaskCancelled
from ..wire.handles import Handle
from ..wire.messages import Grant, Need
from ..wire.status import write_memory, write_progress
from .channel import Channel
from .isolation.memory_limits import PrivateMemory
from .segments import Segment, address_of

__all__ = ["RunningTask"]


class RunningTask:
    """One task from its `Run` to its answer."""

    _cancelled = False

    def __init__(
        self, task_id: int, threads: int, standing: Handle | None, channel: Channel, outbox: Segment, memory: PrivateMemory
    ) -> None:
        self.task_id = task_id
        self.threads = threads
        self._channel = channel
        self._outbox = outbox
        self._memory = memory
        self._grant = standing  # memory that is there and not yet given to the processor
        self._granted: list[Handle] = [standing] if standing else []
        self._callbacks: list[Callable[[], object]] = []
        self._callbacks_lock = threading.Lock()

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """Mark the task and call whatever can stop it. Comes from the control thread, repeatedly."""
        self._cancelled = True
        with self._callbacks_lock:
            for callback in self._callbacks:
                try:
                    callback()
                except Exception:  # a processor's defect; the thread that brings the next cancel must live
                    sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType] (there is one)

    def write_status(self) -> None:
        """Write down how much memory the process has now. Comes from the control thread, several times a second."""
        write_memory(self._outbox.first_page, self._memory.sample())

    def checkpoint(self) -> None:
        if self._cancelled:
            raise TaskCancelled

    @contextmanager
    def on_cancel(self, callback: Callable[[], object]) -> Generator[None]:
        with self._callbacks_lock:
            self._callbacks.append(callback)
        if self._cancelled:
            callback()
        try:
            yield
        finally:
            with self._callbacks_lock:  # waits for a call that is under way
                self._callbacks.remove(callback)

    def progress(self, fraction: float) -> None:
        write_progress(self._outbox.first_page, fraction)

    def allocate(self, nbytes: int) -> memoryview:
        return self.allocate_at_least(nbytes)[:nbytes]

    def allocate_at_least(self, nbytes: int) -> memoryview:
        """As `allocate`, but the whole block: growing output has a use for what was granted beyond."""
        self.checkpoint()
        if nbytes == 0:
            return memoryview(bytearray())
        if self._grant is not None and self._grant.nbytes >= nbytes:
            handle, self._grant = self._grant, None
        else:
            handle = self._ask_for(nbytes)
        return self._outbox.view(handle)

    def output(self, expected_nbytes: int = 0) -> GrowingOutput:
        return GrowingOutput(self.allocate_at_least, expected_nbytes)

    def handle_of(self, memory: memoryview) -> Handle | None:
        """The handle for result memory that starts where a granted block does; None for memory that lies elsewhere."""
        address = address_of(memory)
        if address is None:
            return None
        offset = address - self._outbox.address
        for block in self._granted:
            if block.offset == offset and memory.nbytes <= block.nbytes:
                return Handle(block.segment, block.offset, memory.nbytes, block.generation)
        return None

    def _ask_for(self, nbytes: int) -> Handle:
        self._memory.begin_result(nbytes)
        self._channel.send(Need(self.task_id, nbytes))
        while True:
            answer = self._channel.next_message_for(self)
            self.checkpoint()
            if isinstance(answer, Grant) and answer.task_id == self.task_id:
                break
        if answer.block is None:
            raise TaskFailed("memory_limit", f"{nbytes:,} bytes of result memory cannot be had")
        self._granted.append(answer.block)
        return answer.block


class GrowingOutput:
    """Result memory that is replaced by twice as much whenever it is full."""

    _FIRST_NBYTES = 64 * 1024  # fits the memory that comes with every task

    def __init__(self, allocate: Callable[[int], memoryview], expected_nbytes: int) -> None:
        self._allocate = allocate
        self._memory = allocate(max(expected_nbytes, self._FIRST_NBYTES))
        self._length = 0

    def write(self, chunk: memoryview | bytes | bytearray) -> int:
        source = memoryview(chunk).cast("B")
        end = self._length + source.nbytes
        if end > self._memory.nbytes:
            larger = self._allocate(max(end, 2 * self._memory.nbytes))
            larger[: self._length] = self._memory[: self._length]
            self._memory = larger
        self._memory[self._length : end] = source
        self._length = end
        return source.nbytes

    @property
    def view(self) -> memoryview:
        return self._memory[: self._length]
