"""What a caller waits on: for its task's outcome, or for memory of the inbox."""

from __future__ import annotations

from ..core.blocks import Block
from ..core.tasks import Completed
from ..errors import OffloopError
from .signals import Signal

__all__ = ["InputTicket", "TaskTicket"]


class TaskTicket(Signal):
    """One task's outcome; set once there is one, or when its source must be staged again."""

    settled = False
    outcome: Completed | OffloopError | None = None
    view: memoryview | None = None  # the result's memory, read-only

    def settle(self, outcome: Completed | OffloopError | None, view: memoryview | None) -> None:
        self.settled = True
        self.outcome, self.view = outcome, view
        self.set()

    def rearm(self) -> None:
        """Wait for the next event of a task that has no outcome yet."""
        if not self.settled:
            self.is_set = False
            self.futures = ()
            self.event = None


class InputTicket(Signal):
    """A block of the inbox; set once there is room and pages for it, or never will be."""

    block: Block | None = None
    error: OffloopError | None = None

    def __init__(self, input_id: int, nbytes: int) -> None:
        self.input_id = input_id
        self.nbytes = nbytes

    def provide(self, block: Block) -> None:
        self.block = block
        self.set()

    def refuse(self, error: OffloopError) -> None:
        self.error = error
        self.set()
