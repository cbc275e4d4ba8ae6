"""How late the event loop is: a ticker that should wake every two milliseconds."""

from __future__ import annotations

import asyncio
from time import perf_counter
from types import TracebackType
from typing import Self

from measuring import percentile

__all__ = ["Lag"]

_EVERY_S = 0.002


class Lag:
    """Context manager that measures while its body runs."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._tick())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the time that a timer came too late. A blocked loop counts once for each missed tick."""
        return percentile(self._late, 99) * 1e3 if self._late else 0.0

    async def _tick(self) -> None:
        due = perf_counter() + _EVERY_S
        while True:
            try:
                await asyncio.sleep(max(due - perf_counter(), 0))
            finally:
                # also at the end, because the loop may have been blocked from the first tick to the last
                now = perf_counter()
                while due <= now:
                    self._late.append(now - due)
                    due += _EVERY_S
