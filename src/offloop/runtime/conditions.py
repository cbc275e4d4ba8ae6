"""Conditions of a pool that tasks wait for: opened, drained, resized, closed."""

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
from .loop.futures import OneShotEvent

__all__ = ["PoolConditions"]

ApplyEvent = Callable[[Event], None]


class PoolConditions:
    """One-shot events for the phases of one pool. `CoreDriver` calls `notify` unless the pool is open and not being resized."""

    def __init__(self, core: PoolState, gate: DecisionGate, loop: asyncio.AbstractEventLoop | None) -> None:
        self.opened = OneShotEvent(loop)
        self.closed = OneShotEvent(loop)
        self._loop = loop
        self._core = core
        self._gate = gate
        self._drained = OneShotEvent(loop)
        self.resized: dict[str, OneShotEvent] = {}  # events of the resizes in progress, by the name of the worker group

    def notify(self) -> None:
        """Set the event of each condition that has become true."""
        core = self._core
        if core.phase is not PoolPhase.OPEN:
            if core.phase is PoolPhase.CLOSING:
                self.opened.set()  # `Supervisor.open` then raises `PoolClosed`
            if core.drained:
                self._drained.set()
            if core.closed:
                self.closed.set()
        for group in tuple(self.resized):
            reconciler = core.groups.by_name[group].reconciler
            if reconciler.converged or reconciler.unavailable_error or core.phase is PoolPhase.CLOSING:
                self.resized.pop(group).set()

    def release_all(self) -> None:
        """Wake all waiting tasks, because the core decides nothing any more."""
        for condition in (self.opened, self._drained, self.closed, *self.resized.values()):
            condition.set()

    async def drain(self, apply: ApplyEvent, timeout_s: float | None) -> bool:
        """Refuse new tasks, wait for the present ones, stop those left after the time-out, and close the pool.

        Returns whether all tasks ended by themselves.
        """
        apply(DrainRequested())
        with anyio.move_on_after(timeout_s):
            await self._drained.wait()
        in_time = self._core.drained and not self._core.interrupted
        apply(CloseRequested())
        await self.closed.wait_uncancellable()
        self._gate.raise_if_failed()
        return in_time

    async def resize(self, apply: ApplyEvent, workers: int, group: str) -> None:
        """Set how many tasks of a worker group may run at once. Returns when exactly the desired workers exist.

        Raises:
            WorkerDied: no worker can be started.
            PoolClosed: the pool was closed during the resize.
        """
        resized = self.resized.setdefault(group, OneShotEvent(self._loop))
        apply(ResizeRequested(workers, group))
        await resized.wait()
        self._gate.raise_if_failed()
        if self._core.phase is PoolPhase.CLOSING:
            raise PoolClosed("the pool was closed while it was resized")
        error = self._core.groups.by_name[group].reconciler.unavailable_error
        if error is not None:
            raise copy(error)  # a copy, because the core keeps the error without a traceback
