"""Passes events to the core one at a time and carries out the commands that it returns.

All of it runs in one iteration of the event loop: the core handles an event, its commands are carried out, and events that
they cause follow at once. Nothing here awaits between an event and its last command, so no cancellation can come between
them. An event that arrives while another one is processed (from a log handler, or a deleted view) is queued.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Final

from ..core.model.events import BlocksReturned, Event
from ..core.model.pool_phase import PoolPhase
from ..core.pool_state import PoolState
from .conditions import PoolConditions
from .loop.decision_gate import DecisionGate, GateState
from .loop.futures import BlockFuture, OneShotEvent
from .loop.io import clock
from .memory.page_manager import PageManager
from .memory.views import ViewTracker
from .telemetry.event_stream import EventStream

__all__ = ["CoreDriver"]

# constants, because an enum member lookup is slow on Python 3.11
_IDLE: Final = GateState.IDLE
_PROCESSING: Final = GateState.PROCESSING
_OPEN: Final = PoolPhase.OPEN


class CoreDriver:
    """Event loop of the core: applies events, carries out commands, publishes log entries, rearms the timer."""

    def __init__(
        self,
        core: PoolState,
        gate: DecisionGate,
        page_manager: PageManager,
        views: ViewTracker,
        event_stream: EventStream,
        conditions: PoolConditions,
        loop: asyncio.AbstractEventLoop | None,
        *,
        carry_out: dict[type, Callable[[Any], None]],
        abandon_input: Callable[[BlockFuture], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.timer_deadline = inf  # loop time at which the timer task wakes
        self.timer_changed = OneShotEvent(loop)  # set when the deadline becomes earlier; wakes the timer task
        self._core = core
        self._gate = gate
        self._page_manager = page_manager
        self._views = views
        self._event_stream = event_stream
        self._conditions = conditions
        self._carry_out = carry_out  # functions by command type
        self._abandon_input = abandon_input
        self._fail = fail
        self._clock = clock(loop)
        self._events: deque[Event] = deque()

    def apply(self, event: Event) -> None:
        """Process an event and all events that it causes. A stopped gate processes nothing.

        During the processing of another event, the event is queued.
        """
        gate = self._gate
        if gate.state is not _IDLE:
            self._events.append(event)
            return
        try:  # a KeyboardInterrupt may come between any two lines
            gate.state = _PROCESSING
            self._process(event)
            gate.state = _IDLE
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    def collect_returns(self) -> None:
        """Tell the core which blocks deleted views and unused buffers have returned since the last event."""
        if (returned := self._find_returns()) is not None:
            self.apply(returned)

    def apply_page_results(self) -> None:
        """Tell the core the results of page operations."""
        results = self._page_manager.results
        while results:
            self.apply(results.popleft())

    def _process(self, event: Event) -> None:
        core, events, carry_out = self._core, self._events, self._carry_out
        page_manager, views, conditions = self._page_manager, self._views, self._conditions
        if views.released or events:
            events.append(event)
            if (returned := self._find_returns()) is not None:
                events.appendleft(returned)
            event = events.popleft()
        now = self._clock()
        while True:
            for command in core.handle(event, now):
                carry_out[type(command)](command)
            if core.event_log.entries or page_manager.waiting or page_manager.results:
                self._flush_side_effects()
            if not events and (
                core.has_memory_waiters is not views.is_notifying
                or core.wake_at < self.timer_deadline
                or core.phase is not _OPEN
                or conditions.resized
            ):
                self._notify_waiters()
            if not events:
                break
            event = events.popleft()

    def _notify_waiters(self) -> None:
        """Notify the views, the timer and the tasks that wait for conditions. Called when no event is queued."""
        core, views = self._core, self._views
        if core.has_memory_waiters is not views.is_notifying:
            views.notify_on_release(wanted=core.has_memory_waiters)
        if core.wake_at < self.timer_deadline:
            self.timer_deadline = core.wake_at
            self.timer_changed.set()
        if core.phase is not _OPEN or self._conditions.resized:
            self._conditions.notify()
            if core.closed:
                self._event_stream.close()

    def _flush_side_effects(self) -> None:
        """Publish new event log entries, start queued page operations and queue their results as events."""
        page_manager = self._page_manager
        if entries := self._core.event_log.drain():
            self._event_stream.publish(entries)  # a log handler may cause events
        if page_manager.waiting:
            page_manager.kick()
        while page_manager.results:
            self._events.append(page_manager.results.popleft())

    def _find_returns(self) -> BlocksReturned | None:
        returned: list[int] = []
        while self._views.released:  # a loop, because `_abandon_input` may append to `released`
            generations, unused = self._views.collect()
            returned += generations
            for future in unused:
                self._abandon_input(future)
        return BlocksReturned(tuple(returned)) if returned else None
