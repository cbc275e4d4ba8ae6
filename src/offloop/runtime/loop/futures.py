"""One-shot events that tasks of the loop await, and futures with a value: a task's outcome, or a block of the inbox."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, NamedTuple, Protocol

import anyio

from ...core.model.blocks import Block
from ...core.model.task import Completed, FailedOutput, TaskOutput
from ...errors import OffloopError
from . import fork_safety

__all__ = ["BlockFuture", "DeliveredOutput", "OneShotEvent", "TaskFuture"]


class OneShotEvent:
    """Like `anyio.Event`, but bound to the loop and thread of one pool, and faster on asyncio.

    anyio's `Event` looks up the loop each time. Here, a future of asyncio is awaited on asyncio (and uvloop). On trio anyio's
    event is.
    """

    is_set = False
    futures: tuple[asyncio.Future[None], ...] = ()  # one future for each waiting task, on asyncio
    event: anyio.Event | None = None  # event that tasks wait for, on trio

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop  # the pool's loop; None: trio's

    def set(self) -> None:
        """Wake every waiting task."""
        self.is_set = True
        for future in self.futures:
            if not future.done():  # done: its waiter was cancelled
                future.set_result(None)
        if self.event is not None:
            self.event.set()

    async def wait(self) -> None:
        """Return when the event is set."""
        if self.is_set:
            return
        loop = self.loop
        if loop is not None:
            future: asyncio.Future[None] = loop.create_future()
            self.futures += (future,)
            try:
                await future
            except BaseException:
                self.futures = tuple(other for other in self.futures if other is not future)  # a cancelled waiter is removed
                raise
            return
        if self.event is None:
            self.event = anyio.Event()
        await self.event.wait()

    async def wait_uncancellable(self) -> None:
        """Return when the event is set. A cancellation is raised only then, asyncio's `Task.cancel` too, which ignores shields.

        In a forked child, where the event is never set, a cancellation is raised at once.
        """
        cancelled: BaseException | None = None
        generation = fork_safety.generation()
        with anyio.CancelScope(shield=True):
            while not self.is_set and (cancelled is None or generation == fork_safety.generation()):
                try:
                    await self.wait()
                except anyio.get_cancelled_exc_class() as error:
                    cancelled = error
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled  # because its traceback refers to this frame: a reference cycle otherwise


class DeliveredOutput(NamedTuple):
    """One output that a task has handed over before its end."""

    output: TaskOutput | FailedOutput
    view: memoryview | None  # its memory, read-only; None: it is empty, or failed


class _Files(Protocol):
    def close(self) -> None: ...


class TaskFuture(OneShotEvent):
    """Future of one task's outcome. Set when the task has its outcome, gets a block for its sources, hands over an output, or
    must be staged again."""

    settled = False
    must_stage = False  # whether the source was removed from memory and must be staged again
    block: Block | None = None  # block for copies of the sources, until the stager takes it
    memory: Sequence[Any] = ()  # sources that stay with the caller until the task is sent to a worker: `CallerMemory`
    files: _Files | None = None  # its open source files, which its outcome closes; None: it has none
    outputs: deque[DeliveredOutput] | None = None  # outputs that were not read yet; None: nothing reads them
    on_output: Callable[[], None] | None = None  # called after each new output, before the event is set
    outcome: Completed | OffloopError | None = None
    view: memoryview | None = None  # the result's memory, read-only

    def pop_outcome(self) -> Completed | OffloopError | None:
        """Return the outcome and forget it, because an error's traceback may refer to this future."""
        outcome, self.outcome = self.outcome, None
        return outcome

    def set_result(self, outcome: Completed | OffloopError | None, view: memoryview | None) -> None:
        self.settled = True
        self.outcome, self.view = outcome, view
        self.set()

    def add_output(self, output: TaskOutput | FailedOutput, view: memoryview | None) -> None:
        if self.outputs is None:
            return  # the last reference to the view ends here, and with it the caller's lease
        self.outputs.append(DeliveredOutput(output, view))
        if self.on_output is not None:
            self.on_output()
        self.set()

    def provide(self, block: Block) -> None:
        self.block = block
        self.set()

    def request_staging(self) -> None:
        self.must_stage = True
        self.set()

    def rearm(self) -> None:
        """Reset the event of a task that has no outcome yet."""
        self.must_stage = False
        if not self.settled:
            self.is_set = False
            self.futures = ()
            self.event = None


class BlockFuture(OneShotEvent):
    """Future of a block of the inbox. Set when its pages are reserved, or the request is refused."""

    block: Block | None = None
    _error: OffloopError | None = None  # error of a refused request; only copies of it are raised

    def __init__(self, input_id: int, nbytes: int, loop: asyncio.AbstractEventLoop | None) -> None:
        super().__init__(loop)
        self.input_id = input_id
        self.nbytes = nbytes

    def set_result(self, block: Block) -> None:
        self.block = block
        self.set()

    def set_exception(self, error: OffloopError) -> None:
        self._error = error
        self.set()

    def check(self) -> None:
        """Raise the error of a refused request: a copy, so that this future keeps no traceback."""
        if self._error is not None:
            raise copy(self._error)
