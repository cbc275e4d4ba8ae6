"""What a caller waits on: for its task's outcome, or for memory of the inbox."""

from __future__ import annotations

import anyio

from ..core.arena import Block
from ..core.tasks import Completed
from ..errors import OffloopError

__all__ = ["InputTicket", "TaskTicket"]


class _Ticket:
    """Something that will be settled once. The event is made only if somebody has to wait: often nobody does."""

    __slots__ = ("_event", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        """Return when it is settled."""
        if not self.settled:
            if self._event is None:
                self._event = anyio.Event()
            await self._event.wait()

    def _settle(self) -> None:
        self.settled = True
        if self._event is not None:
            self._event.set()


class TaskTicket(_Ticket):
    """One task's outcome, once there is one."""

    __slots__ = ("outcome", "view")

    def __init__(self) -> None:
        super().__init__()
        self.outcome: Completed | OffloopError | None = None
        self.view: memoryview | None = None  # the result's memory, read-only

    def settle(self, outcome: Completed | OffloopError | None, view: memoryview | None) -> None:
        self.outcome, self.view = outcome, view
        self._settle()


class InputTicket(_Ticket):
    """A block of the inbox, once there is room and pages for it."""

    __slots__ = ("__weakref__", "block", "error", "input_id", "nbytes")

    def __init__(self, input_id: int, nbytes: int) -> None:
        super().__init__()
        self.input_id = input_id
        self.nbytes = nbytes
        self.block: Block | None = None
        self.error: OffloopError | None = None

    def provide(self, block: Block) -> None:
        self.block = block
        self._settle()

    def refuse(self, error: OffloopError) -> None:
        self.error = error
        self._settle()
