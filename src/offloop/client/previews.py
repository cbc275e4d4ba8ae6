"""Calls the `on_preview` of one task with each preview, in the task of the caller, so that one call ends before the next."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import TypeAlias

from .results import Result

__all__ = ["PreviewCallback", "PreviewListener"]

PreviewCallback: TypeAlias = Callable[[Result], Awaitable[object] | object]

_log = logging.getLogger("offloop.previews")


class PreviewListener:
    """Calls one callback. A callback that raises is logged, and not called again."""

    def __init__(self, callback: PreviewCallback) -> None:
        self._callback: PreviewCallback | None = callback

    async def __call__(self, preview: Result) -> None:
        """Call the callback with a preview. Returns when an async callback has ended."""
        if self._callback is None:
            return
        try:
            returned = self._callback(preview)
            if isawaitable(returned):
                await returned
        except Exception:
            self._callback = None
            _log.warning("an on_preview callback raised, and is not called again; its task goes on", exc_info=True)
