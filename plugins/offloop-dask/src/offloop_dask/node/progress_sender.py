"""Sends the progress of one task to its client: at most five times a second, and the newest state always."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from offloop import Progress

from ..wire.channel import ChannelClosed
from ..wire.messages import Progressed

__all__ = ["ProgressSender"]

_INTERVAL_S = 0.2  # seconds between two messages

Send = Callable[[msgspec.Struct], Awaitable[None]]


class ProgressSender:
    """Keeps the newest progress of a task, and sends it when the last message is old enough."""

    def __init__(self, task_id: int, send: Send) -> None:
        self._task_id = task_id
        self._send = send
        self._unsent: Progress | None = None
        self._sending: asyncio.Task[None] | None = None

    def update(self, progress: Progress) -> None:
        """Take the progress of this moment. It is an `on_progress` callback."""
        if progress.fraction >= 1:
            return  # `Done` says so
        self._unsent = progress
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())

    def close(self) -> None:
        """Send nothing more."""
        if self._sending is not None:
            self._sending.cancel()

    async def _send_all(self) -> None:
        with suppress(ChannelClosed):  # the session ends the task
            while (progress := self._unsent) is not None:
                self._unsent = None
                await self._send(
                    Progressed(
                        self._task_id,
                        progress.fraction,
                        progress.stage,
                        progress.operation,
                        progress.eta_s,
                        progress.waits_for,
                        progress.cost_s,
                    )
                )
                await asyncio.sleep(_INTERVAL_S)
        self._sending = None
