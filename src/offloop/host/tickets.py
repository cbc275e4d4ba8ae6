"""What a caller waits on: for its task's outcome, or for memory of the inbox."""

from __future__ import annotations

import anyio

from ..core.arena import Block
from ..core.tasks import Completed
from ..errors import OffloopError

__all__ = ["InputTicket", "TaskTicket"]


class TaskTicket:
    """One task's outcome, once there is one."""

    __slots__ = ("_settled", "outcome", "view")

    def __init__(self) -> None:
        self._settled = anyio.Event()
        self.outcome: Completed | OffloopError | None = None
        self.view: memoryview | None = None  # the result's memory, read-only

    @property
    def settled(self) -> bool:
        return self._settled.is_set()

    def settle(self, outcome: Completed | OffloopError | None, view: memoryview | None) -> None:
        self.outcome, self.view = outcome, view
        self._settled.set()

    async def wait(self) -> None:
        await self._settled.wait()


class InputTicket:
    """A block of the inbox, once there is room and pages for it."""

    __slots__ = ("_settled", "block", "error", "input_id", "nbytes")

    def __init__(self, input_id: int, nbytes: int) -> None:
        self.input_id = input_id
        self.nbytes = nbytes
        self._settled = anyio.Event()
        self.block: Block | None = None
        self.error: OffloopError | None = None

    @property
    def settled(self) -> bool:
        return self._settled.is_set()

    def provide(self, block: Block) -> None:
        self.block = block
        self._settled.set()

    def refuse(self, error: OffloopError) -> None:
        self.error = error
        self._settled.set()

    async def wait(self) -> None:
        await self._settled.wait()
