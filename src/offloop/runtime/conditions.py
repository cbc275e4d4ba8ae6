"""The moments in a pool's life that somebody may wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy

import anyio

from ..core.model.events import CloseRequested, DrainRequested, Event, ResizeRequested
from ..core.model.pool_phase import Phase
from ..core.pool_state import PoolState
from ..errors import PoolClosed
from .loop.decision_gate import Standing
from .loop.oneshot_event import Signal

__all__ = ["Milestones"]

Applying = Callable[[Event], None]


class Milestones:
    """Looked at after every turn, but in a pool that is open and has its size."""

    def __init__(self, core: PoolState, standing: Standing, loop: asyncio.AbstractEventLoop | None) -> None:
        self.opened = Signal(loop)
        self.gone = Signal(loop)
        self._loop = loop
        self._core = core
        self._standing = standing
        self._drained = Signal(loop)
        self.resized: Signal | None = None  # somebody waits for it

    def look(self) -> None:
        """Tell those whose moment has come."""
        core = self._core
        if core.phase is not Phase.OPEN:
            if core.phase is Phase.CLOSING:
                self.opened.set()  # whoever still waits for that is told that it is closed
            if core.drained:
                self._drained.set()
            if core.gone:
                self.gone.set()
        if self.resized is not None and (core.hiring.complete or core.hiring.hopeless or core.phase is Phase.CLOSING):
            self.resized.set()
            self.resized = None

    def give_up(self) -> None:
        """Nothing is decided any more, and nobody is to wait for it."""
        for moment in (self.opened, self._drained, self.gone, self.resized):
            if moment is not None:
                moment.set()

    async def drain(self, apply: Applying, timeout_s: float | None) -> bool:
        """Take nothing new, wait for what is held, and end what is still there after the time-out; then the pool is closed.

        Returns whether everything ended by itself.
        """
        apply(DrainRequested())
        with anyio.move_on_after(timeout_s):
            await self._drained.wait()
        in_time = self._core.drained and not self._core.cut_short
        apply(CloseRequested())
        await self.gone.wait_whatever_happens()
        self._standing.check_sound()
        return in_time

    async def resize(self, apply: Applying, workers: int) -> None:
        """Have so many tasks run at once; returns when as many workers as are wanted are there, and no more.

        Raises:
            WorkerDied: no worker can be started.
            PoolClosed: the pool was closed meanwhile.
        """
        resized = self.resized = self.resized or Signal(self._loop)
        apply(ResizeRequested(workers))
        await resized.wait()
        self._standing.check_sound()
        if self._core.phase is Phase.CLOSING:
            raise PoolClosed("the pool was closed while it was resized")
        if self._core.hiring.hopeless is not None:
            raise copy(self._core.hiring.hopeless)  # the core keeps it, and must not keep its traceback
