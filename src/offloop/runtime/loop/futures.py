"""Futures that callers await: a task's outcome, or a block of the inbox."""

from __future__ import annotations

import asyncio
from collections import deque
from copy import copy
from typing import NamedTuple

from ...core.model.blocks import Block
from ...core.model.task import Completed, TaskOutput
from ...errors import OffloopError
from .oneshot_event import OneShotEvent

__all__ = ["BlockFuture", "DeliveredOutput", "TaskFuture"]


class DeliveredOutput(NamedTuple):
    """One output that a task has handed over before its end."""

    output: TaskOutput
    view: memoryview | None  # its memory, read-only; None: it is empty


class TaskFuture(OneShotEvent):
    """Future of one task's outcome. Set when the task has its outcome, hands over an output, or must be staged again."""

    settled = False
    must_stage = False  # whether the source was removed from memory and must be staged again
    outputs: deque[DeliveredOutput] | None = None  # outputs that the caller has not taken yet; None: there were none
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

    def add_output(self, output: TaskOutput, view: memoryview | None) -> None:
        if self.outputs is None:
            self.outputs = deque()
        self.outputs.append(DeliveredOutput(output, view))
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
