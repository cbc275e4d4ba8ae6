"""From event to commands, one event after another.

Everything happens in one turn of the loop: an event goes in, its commands are carried out, and events that this causes
follow at once. Nothing here awaits between an event and its last command, so no cancellation can come between them. What
comes while another event is decided on (a handler of the log causes one, a view goes) is next.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any

from ..core.model.events import BlocksReturned, Event
from ..core.model.pool_phase import PoolPhase
from ..core.pool_state import PoolState
from .conditions import PoolConditions
from .loop.decision_gate import DecisionGate, GateState
from .loop.futures import BlockFuture
from .loop.io import clock
from .loop.oneshot_event import OneShotEvent
from .memory.page_manager import PageManager
from .memory.views import ViewTracker
from .telemetry.event_stream import EventStream

__all__ = ["CoreDriver"]

_FREE, _TAKEN, _OPEN = (
    GateState.IDLE,
    GateState.PROCESSING,
    PoolPhase.OPEN,
)  # looked up once: that takes its time on Python 3.11


class CoreDriver:
    """Tells the core what happened, and has done what it says."""

    def __init__(
        self,
        core: PoolState,
        standing: DecisionGate,
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
        self.timer_deadline = inf  # when the timer will wake by itself...
        self.timer_changed = OneShotEvent(loop)  # ...unless it is set before
        self._core = core
        self._gate = standing
        self._page_manager = page_manager
        self._views = views
        self._event_stream = event_stream
        self._conditions = conditions
        self._carry_out = carry_out  # by the type of the command
        self._abandon_input = abandon_input
        self._fail = fail
        self._clock = clock(loop)
        self._events: deque[Event] = deque()

    def apply(self, event: Event) -> None:
        """Tell the core, and do what it says, and so on until nothing follows. After a defect of ours nothing does."""
        standing = self._gate
        if standing.state is not _FREE:
            self._events.append(event)
            return
        try:  # a KeyboardInterrupt may come between any two lines
            standing.state = _TAKEN
            self._process(event)
            standing.state = _FREE
        except BaseException as error:
            self._fail(error)
            if not isinstance(error, Exception):
                raise

    def collect_returns(self) -> None:
        """Take back what views and forgotten buffers have returned since the last event."""
        if (news := self._find_returns()) is not None:
            self.apply(news)

    def apply_page_results(self) -> None:
        """Tell the core what became of the moves of pages."""
        results = self._page_manager.results
        while results:
            self.apply(results.popleft())

    def _process(self, event: Event) -> None:
        core, events, carry_out = self._core, self._events, self._carry_out
        page_manager, views, conditions = self._page_manager, self._views, self._conditions
        if views.released or events:
            events.append(event)
            if (news := self._find_returns()) is not None:
                events.appendleft(news)
            event = events.popleft()
        now = self._clock()
        while True:
            for command in core.handle(event, now):
                carry_out[type(command)](command)
            if core.event_log.entries or page_manager.waiting or page_manager.results:
                self._flush_side_effects()
            if not events and (
                core.has_memory_waiters is not views.notifying
                or core.wake_at < self.timer_deadline
                or core.phase is not _OPEN
                or conditions.resized is not None
            ):
                self._notify_waiters()
            if not events:
                break
            event = events.popleft()

    def _notify_waiters(self) -> None:
        """Nothing follows any more: who waits for something else than an event is told."""
        core, views = self._core, self._views
        if core.has_memory_waiters is not views.notifying:
            views.notify_on_release(wanted=core.has_memory_waiters)
        if core.wake_at < self.timer_deadline:
            self.timer_deadline = core.wake_at
            self.timer_changed.set()
        if core.phase is not _OPEN or self._conditions.resized is not None:
            self._conditions.notify()
            if core.closed:
                self._event_stream.close()

    def _flush_side_effects(self) -> None:
        """What an event and its commands have brought about beside them: entries for the log, moves of pages."""
        page_manager = self._page_manager
        if entries := self._core.event_log.drain():
            self._event_stream.publish(entries)  # a handler of the log may cause events itself
        if page_manager.waiting:
            page_manager.kick()
        while page_manager.results:
            self._events.append(page_manager.results.popleft())

    def _find_returns(self) -> BlocksReturned | None:
        returned: list[int] = []
        while self._views.released:  # a forgotten buffer that has a block returns it, which is news again
            generations, forgotten = self._views.collect()
            returned += generations
            for future in forgotten:
                self._abandon_input(future)
        return BlocksReturned(tuple(returned)) if returned else None
