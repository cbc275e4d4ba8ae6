"""Implements `offloop.processor.Task` in a worker, with granted memory and the channel."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import TaskFailed
from ..wire.handles import Handle
from ..wire.messages import Grant, Need
from ..wire.status import write_memory, write_progress
from .cancellation import CancellableTask
from .channel import Channel
from .isolation.memory_limits import PrivateMemory
from .segments import Segment, address_of

__all__ = ["RunningTask"]


class RunningTask(CancellableTask):
    """One task from its `Run` message to its answer. The control thread calls `cancel` repeatedly."""

    def __init__(
        self, task_id: int, threads: int, preallocated: Handle | None, channel: Channel, outbox: Segment, memory: PrivateMemory
    ) -> None:
        super().__init__()
        self.task_id = task_id
        self.threads = threads
        self._channel = channel
        self._outbox = outbox
        self._memory = memory
        self._preallocated = preallocated  # result memory that the processor has not allocated yet
        self._granted: list[Handle] = [preallocated] if preallocated else []

    def write_status(self) -> None:
        """Write the process's private memory to the status page. The control thread calls this several times a second."""
        write_memory(self._outbox.first_page, self._memory.sample())

    def progress(self, fraction: float) -> None:
        write_progress(self._outbox.first_page, fraction)

    def allocate(self, nbytes: int) -> memoryview:
        return self.allocate_at_least(nbytes)[:nbytes]

    def allocate_at_least(self, nbytes: int) -> memoryview:
        """Returns the whole granted block of at least `nbytes`, because `GrowingOutput` can use all of it."""
        self.checkpoint()
        if nbytes == 0:
            return memoryview(bytearray())
        if self._preallocated is not None and self._preallocated.nbytes >= nbytes:
            handle, self._preallocated = self._preallocated, None
        else:
            handle = self._request_block(nbytes)
        return self._outbox.view(handle)

    def output(self, expected_nbytes: int = 0) -> GrowingOutput:
        return GrowingOutput(self.allocate_at_least, expected_nbytes)

    def find_handle(self, memory: memoryview) -> Handle | None:
        """Returns the handle of memory that starts at the start of a granted block; None for all other memory."""
        address = address_of(memory)
        if address is None:
            return None
        offset = address - self._outbox.address
        for block in self._granted:
            if block.offset == offset and memory.nbytes <= block.nbytes:
                return Handle(block.segment, block.offset, memory.nbytes, block.generation)
        return None

    def _request_block(self, nbytes: int) -> Handle:
        self._memory.begin_result(nbytes)
        self._channel.send(Need(self.task_id, nbytes))
        while True:
            answer = self._channel.next_message_for(self)
            self.checkpoint()
            if isinstance(answer, Grant) and answer.task_id == self.task_id:
                break
        if answer.block is None:
            raise TaskFailed("memory_limit", f"the pool can never grant {nbytes:,} bytes of result memory")
        self._granted.append(answer.block)
        return answer.block


class GrowingOutput:
    """Result memory of unknown length. When it is full, a block of twice the size replaces it."""

    _FIRST_NBYTES = 64 * 1024  # initial size in bytes; fits the preallocated block of a task

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
