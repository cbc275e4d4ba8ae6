"""The moments in a pool's life that somebody may wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy

import anyio

from ..core.model.events import CloseRequested, DrainRequested, Event, ResizeRequested
from ..core.model.pool_phase import PoolPhase
from ..core.pool_state import PoolState
from ..errors import PoolClosed
from .loop.decision_gate import DecisionGate
from .loop.oneshot_event import OneShotEvent

__all__ = ["PoolConditions"]

Applying = Callable[[Event], None]


class PoolConditions:
    """Looked at after every turn, but in a pool that is open and has its size."""

    def __init__(self, core: PoolState, standing: DecisionGate, loop: asyncio.AbstractEventLoop | None) -> None:
        self.opened = OneShotEvent(loop)
        self.closed = OneShotEvent(loop)
        self._loop = loop
        self._core = core
        self._gate = standing
        self._drained = OneShotEvent(loop)
        self.resized: OneShotEvent | None = None  # somebody waits for it

    def notify(self) -> None:
        """Tell those whose moment has come."""
        core = self._core
        if core.phase is not PoolPhase.OPEN:
            if core.phase is PoolPhase.CLOSING:
                self.opened.set()  # whoever still waits for that is told that it is closed
            if core.drained:
                self._drained.set()
            if core.closed:
                self.closed.set()
        if self.resized is not None and (
            core.reconciler.converged or core.reconciler.unavailable_error or core.phase is PoolPhase.CLOSING
        ):
            self.resized.set()
            self.resized = None

    def release_all(self) -> None:
        """Nothing is decided any more, and nobody is to wait for it."""
        for moment in (self.opened, self._drained, self.closed, self.resized):
            if moment is not None:
                moment.set()

    async def drain(self, apply: Applying, timeout_s: float | None) -> bool:
        """Take nothing new, wait for what is held, and end what is still there after the time-out; then the pool is closed.

        Returns whether everything ended by itself.
        """
        apply(DrainRequested())
        with anyio.move_on_after(timeout_s):
            await self._drained.wait()
        in_time = self._core.drained and not self._core.interrupted
        apply(CloseRequested())
        await self.closed.wait_uncancellable()
        self._gate.raise_if_failed()
        return in_time

    async def resize(self, apply: Applying, workers: int) -> None:
        """Have so many tasks run at once; returns when as many workers as are wanted are there, and no more.

        Raises:
            WorkerDied: no worker can be started.
            PoolClosed: the pool was closed meanwhile.
        """
        resized = self.resized = self.resized or OneShotEvent(self._loop)
        apply(ResizeRequested(workers))
        await resized.wait()
        self._gate.raise_if_failed()
        if self._core.phase is PoolPhase.CLOSING:
            raise PoolClosed("the pool was closed while it was resized")
        if self._core.reconciler.unavailable_error is not None:
            raise copy(self._core.reconciler.unavailable_error)  # the core keeps it, and must not keep its traceback
