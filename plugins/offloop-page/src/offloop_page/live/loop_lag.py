"""How late the event loop is: the delay of a timer, measured while there is an observer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

__all__ = ["LoopLag"]

_INTERVAL_S = 0.02
_KEPT = 50  # delays of the last second


class LoopLag:
    """The largest delay of the loop in the last second. All observers share one timer."""

    def __init__(self) -> None:
        self._delays: deque[float] = deque(maxlen=_KEPT)
        self._observers = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def largest_s(self) -> float:
        """Seconds; 0.0 before the first measurement."""
        return max(self._delays, default=0.0)

    @asynccontextmanager
    async def observed(self) -> AsyncGenerator[None]:
        """Measure while the block runs."""
        self._observers += 1
        if self._task is None:
            self._task = asyncio.create_task(self._measure())
        try:
            yield
        finally:
            self._observers -= 1
            if not self._observers:
                self._task.cancel()
                self._task = None
                self._delays.clear()

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _INTERVAL_S
            await asyncio.sleep(_INTERVAL_S)
            self._delays.append(max(loop.time() - due, 0.0))
