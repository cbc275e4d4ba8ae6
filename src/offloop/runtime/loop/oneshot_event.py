"""One-shot events that callers and the pool's own tasks wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio

from .io import wait_for, wait_uncancellable

__all__ = ["OneShotEvent"]


class OneShotEvent:
    """What `anyio.Event` is, for the one loop and thread of a pool."""

    is_set = False
    futures: tuple[asyncio.Future[None], ...] = ()  # of the waiting tasks, where the loop is asyncio's
    event: anyio.Event | None = None  # what tasks wait for on trio

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self.loop = loop  # the pool's; None: trio's

    def set(self) -> None:
        """Wake every waiting task."""
        self.is_set = True
        for future in self.futures:
            if not future.done():  # else its waiter was cancelled
                future.set_result(None)
        if self.event is not None:
            self.event.set()

    def wait(self) -> Coroutine[Any, Any, None]:
        """Await it: it returns once the signal is set."""
        return wait_for(self)

    def wait_uncancellable(self) -> Coroutine[Any, Any, None]:
        """Await it: it returns once the signal is set; a cancellation meanwhile is raised then."""
        return wait_uncancellable(self)
