"""What a caller waits on: for its task's outcome, or for memory of the inbox."""

from __future__ import annotations

import asyncio
from copy import copy

from ...core.model.blocks import Block
from ...core.model.task import Completed
from ...errors import OffloopError
from .oneshot_event import OneShotEvent

__all__ = ["BlockFuture", "TaskFuture"]


class TaskFuture(OneShotEvent):
    """One task's outcome; set once there is one, or when its source must be staged again."""

    settled = False
    outcome: Completed | OffloopError | None = None
    view: memoryview | None = None  # the result's memory, read-only

    def take_outcome(self) -> Completed | OffloopError | None:
        """The outcome, which the ticket no longer refers to: an error's traceback may refer to the ticket."""
        outcome, self.outcome = self.outcome, None
        return outcome

    def set_result(self, outcome: Completed | OffloopError | None, view: memoryview | None) -> None:
        self.settled = True
        self.outcome, self.view = outcome, view
        self.set()

    def rearm(self) -> None:
        """Wait for the next event of a task that has no outcome yet."""
        if not self.settled:
            self.is_set = False
            self.futures = ()
            self.event = None


class BlockFuture(OneShotEvent):
    """A block of the inbox; set once there is room and pages for it, or never will be."""

    block: Block | None = None
    _error: OffloopError | None = None  # as it was told, and never raised

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
        """Raise the error with which the request was refused, if it was: a copy, so that nothing here holds its traceback."""
        if self._error is not None:
            raise copy(self._error)
