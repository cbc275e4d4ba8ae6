"""Calls the `on_progress` of one task: monotonic, one call at a time, and none after the outcome."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any

import msgspec

from offloop import Progress

__all__ = ["ProgressCalls"]

_log = logging.getLogger("offloop.progress")

_MAX_FRACTION = 0.99  # highest fraction before the task has succeeded


class ProgressCalls:
    """Calls one sync or async callback. One that raises is logged, and not called again."""

    def __init__(self, callback: Callable[[Progress], Awaitable[object] | object]) -> None:
        self._callback: Callable[[Progress], Any] | None = callback
        self._context = contextvars.copy_context()
        self._last = Progress(0.0, "", "", None)
        self._call: asyncio.Future[Any] | None = None
        self._missed: Progress | None = None  # the newest progress that came while the callback ran

    def update(self, progress: Progress) -> None:
        """Call it, unless nothing has changed; after the end of its last call, if that still runs."""
        if self._call is not None:
            self._missed = progress
            return
        fraction = max(min(progress.fraction, _MAX_FRACTION), self._last.fraction)
        shown = (fraction, progress.operation, progress.waits_for)
        if shown == (self._last.fraction, self._last.operation, self._last.waits_for):
            return
        self._last = msgspec.structs.replace(progress, fraction=fraction)
        self._start(self._last)

    async def finish(self) -> None:
        """The task has succeeded: wait for the last call to end, then call it with 1."""
        self._missed = None
        if self._call is not None:
            await self._call
        self._start(msgspec.structs.replace(self._last, fraction=1.0, eta_s=0.0, waits_for=None))
        if self._call is not None:
            await self._call

    async def cancel(self) -> None:
        """The task has not succeeded: cancel a call that has not ended, and return when it has."""
        self._callback = None
        if self._call is not None:
            self._call.cancel()
            await asyncio.wait({self._call})

    def _start(self, progress: Progress) -> None:
        if self._callback is None:
            return
        try:
            returned = self._context.copy().run(self._callback, progress)
        except Exception:
            self._drop()
            return
        if isawaitable(returned):
            self._call = asyncio.ensure_future(self._finish_call(returned))

    async def _finish_call(self, awaitable: Awaitable[object]) -> None:
        try:
            await awaitable
        except Exception:
            self._drop()
        finally:
            self._call = None
        missed, self._missed = self._missed, None
        if missed is not None:
            self.update(missed)

    def _drop(self) -> None:
        self._callback = None
        _log.warning("an on_progress callback raised, and is not called again; its task goes on", exc_info=True)
