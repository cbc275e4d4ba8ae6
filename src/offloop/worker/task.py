"""Implements `offloop.processor.Task` in a worker, with granted memory and the channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import TaskFailed
from ..processor import Payload
from ..wire.handles import Handle
from ..wire.messages import Credit, FromSupervisor, Grant, Need, Run
from ..wire.status import write_memory, write_progress
from .cancellation import CancellableTask
from .channel import Channel
from .isolation.memory_limits import PrivateMemory
from .named_pipelines import NamedPipeline
from .segments import Segment, address_of

__all__ = ["RunningTask"]


class RunningTask(CancellableTask):
    """One task from its `Run` message to its answer. The control thread calls `cancel` repeatedly."""

    stage = 0  # index of the stage that runs
    name = ""  # name of the pipeline that runs, if pipelines have names
    unfinished: Mapping[int, NamedPipeline] = {}  # pipelines of `SharingProcessor.run_many` without a result, by index

    _previews = 0  # number of previews that it may still hand over
    _reserved = 0  # number of outputs that `emit` may not hand over
    _credit = 0  # number of outputs that `emit` may hand over
    _outputs = 0  # number of outputs that `emit` has handed over

    def __init__(
        self,
        run: Run,
        sources: tuple[Payload, ...],
        preallocated: Handle | None,
        channel: Channel,
        outbox: Segment,
        memory: PrivateMemory,
        hand_over: Callable[[RunningTask, Payload, str], None],
        hand_over_preview: Callable[[RunningTask, Payload, int | None], None],
        started_ns: int = 0,
    ) -> None:
        super().__init__()
        self.run = run
        self.started_ns = started_ns  # time of its start on the system's monotonic clock
        self.task_id = run.task_id
        self.threads = run.threads
        self.labels: Mapping[str, str] = run.labels
        self.sources = sources
        self.end = len(run.stages)  # index after the last stage of the pipeline that runs
        self.info: dict[str, Any] = {}  # values that `add_info` has added
        if run.credit:
            self._previews = run.previews
            self._reserved = len(run.pipelines) + run.previews
            self._credit = run.credit - self._reserved
        self._channel = channel
        self._outbox = outbox
        self._memory = memory
        self._hand_over = hand_over
        self._hand_over_preview = hand_over_preview
        self._granted: list[Handle] = [preallocated] if preallocated else []
        self._free = list(self._granted)  # granted blocks that are not in use

    @property
    def is_last_stage(self) -> bool:
        return self.stage == self.end - 1

    def write_status(self) -> None:
        """Write the process's private memory to the status page. The control thread calls this several times a second."""
        write_memory(self._outbox.first_page, self._memory.sample())

    def add_info(self, info: Mapping[str, Any]) -> None:
        self.info.update(info)

    def progress(self, fraction: float) -> None:
        write_progress(self._outbox.first_page, fraction)

    def allocate(self, nbytes: int) -> memoryview:
        return self.allocate_at_least(nbytes)[:nbytes]

    def allocate_at_least(self, nbytes: int) -> memoryview:
        """Returns the whole granted block of at least `nbytes`, because `GrowingOutput` can use all of it."""
        self.checkpoint()
        if nbytes == 0:
            return memoryview(bytearray())
        handle = self._take_free_block(nbytes)
        while handle is None and self._credit and self._receive_arrived():  # because credit may bring blocks
            handle = self._take_free_block(nbytes)
        return self._outbox.view(handle or self._request_block(nbytes))

    def output(self, expected_nbytes: int = 0) -> GrowingOutput:
        return GrowingOutput(self.allocate_at_least, expected_nbytes, self._reuse)

    def emit(self, payload: Payload, name: str | None = None) -> bool:
        if not self._credit:
            return False
        self.checkpoint()
        while self._outputs >= self._credit:
            self._next_message()
        self._outputs += 1
        self._hand_over(self, payload, name or "")
        return True

    @property
    def wants_preview(self) -> bool:
        return self._previews > 0

    def preview(self, payload: Payload, pipeline: int | None = None) -> bool:
        if not self._previews:
            return False
        self.checkpoint()
        self._previews -= 1
        self._hand_over_preview(self, payload, pipeline)
        return True

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

    def forget_block(self, block: Handle) -> None:
        """The caller owns a block from now on."""
        self._granted = [other for other in self._granted if other.generation != block.generation]

    def _reuse(self, memory: memoryview) -> None:
        """Memory of `allocate_at_least` is not used any more: its block may be allocated again."""
        handle = self.find_handle(memory)
        self._free += [block for block in self._granted if handle is not None and block.generation == handle.generation]

    def _take_free_block(self, nbytes: int) -> Handle | None:
        """Returns the smallest block that is not in use and has so many bytes, which is in use from now on."""
        handle = min((block for block in self._free if block.nbytes >= nbytes), key=lambda block: block.nbytes, default=None)
        if handle is not None:
            self._free.remove(handle)
        return handle

    def _request_block(self, nbytes: int) -> Handle:
        self._memory.begin_result(nbytes)
        self._channel.send(Need(self.task_id, nbytes))
        while True:
            answer = self._next_message()
            if isinstance(answer, Grant) and answer.task_id == self.task_id:
                break
        if answer.block is None:
            raise TaskFailed("memory_limit", f"the pool can never grant {nbytes:,} bytes of result memory")
        self._granted.append(answer.block)
        return answer.block

    def _next_message(self) -> FromSupervisor | None:
        """Wait for the next message of the supervisor. Credit may come while the task waits for memory.

        Raises:
            TaskCancelled: the task has to stop.
        """
        message = self._channel.next_message_for(self)
        self.checkpoint()
        self._note_credit(message)
        return message

    def _receive_arrived(self) -> bool:
        """Receive one message that has arrived, if there is any, without waiting. Returns whether there was one."""
        message = self._channel.find_message_for(self)
        self._note_credit(message)
        return message is not None

    def _note_credit(self, message: FromSupervisor | None) -> None:
        if isinstance(message, Credit) and message.task_id == self.task_id:
            self._credit = message.outputs - self._reserved
            self._granted += message.grants
            self._free += message.grants


class GrowingOutput:
    """Result memory of unknown length. When it is full, a block of twice the size replaces it."""

    _FIRST_NBYTES = 64 * 1024  # initial size in bytes; fits the preallocated block of a task

    def __init__(
        self,
        allocate: Callable[[int], memoryview],
        expected_nbytes: int,
        reuse: Callable[[memoryview], None] = lambda _: None,
    ) -> None:
        """Allocate the first memory.

        Args:
            allocate: returns memory of at least so many bytes.
            expected_nbytes: expected length of the output.
            reuse: called with memory that a larger block has replaced.
        """
        self._allocate = allocate
        self._reuse = reuse
        self._memory = allocate(max(expected_nbytes, self._FIRST_NBYTES))
        self._length = 0

    def write(self, chunk: memoryview | bytes | bytearray) -> int:
        source = memoryview(chunk).cast("B")
        end = self._length + source.nbytes
        if end > self._memory.nbytes:
            larger = self._allocate(max(end, 2 * self._memory.nbytes))
            larger[: self._length] = self._memory[: self._length]
            self._reuse(self._memory)
            self._memory = larger
        self._memory[self._length : end] = source
        self._length = end
        return source.nbytes

    @property
    def view(self) -> memoryview:
        return self._memory[: self._length]
