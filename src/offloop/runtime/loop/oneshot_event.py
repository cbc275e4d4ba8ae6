"""One-shot events that callers and background tasks wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio

from .io import wait_for, wait_uncancellable

__all__ = ["OneShotEvent"]


class OneShotEvent:
    """Like `anyio.Event`, but bound to the loop and thread of one pool, and faster on asyncio."""

    is_set = False
    futures: tuple[asyncio.Future[None], ...] = ()  # one future for each waiting task, on asyncio
    event: anyio.Event | None = None  # event that tasks wait for, on trio

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop  # the pool's loop; None: trio's

    def set(self) -> None:
        """Wake every waiting task."""
        self.is_set = True
        for future in self.futures:
            if not future.done():  # done: its waiter was cancelled
                future.set_result(None)
        if self.event is not None:
            self.event.set()

    def wait(self) -> Coroutine[Any, Any, None]:
        """Return when the event is set."""
        return wait_for(self)

    def wait_uncancellable(self) -> Coroutine[Any, Any, None]:
        """Return when the event is set. A cancellation is raised only then."""
        return wait_uncancellable(self)
