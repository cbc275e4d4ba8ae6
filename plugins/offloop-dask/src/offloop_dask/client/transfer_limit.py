"""Bounds the bytes of results that are under way to this client. Waiting results get room in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

__all__ = ["TransferLimit"]


class TransferLimit:
    """A number of bytes that transfers share. A transfer that is longer than all of it runs alone."""

    def __init__(self, nbytes: int) -> None:
        self._limit = nbytes
        self._used = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def room(self, nbytes: int) -> AsyncGenerator[None]:
        """Wait for room for so many bytes, and keep it inside the block."""
        nbytes = min(nbytes, self._limit)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((nbytes, future))
        self._give()
        try:
            await future
        except BaseException:
            if future.done() and not future.cancelled():
                self._return(nbytes)
            else:
                with suppress(ValueError):  # `_give` has dropped it already
                    self._waiting.remove((nbytes, future))
                self._give()
            raise
        try:
            yield
        finally:
            self._return(nbytes)

    def _return(self, nbytes: int) -> None:
        self._used -= nbytes
        self._give()

    def _give(self) -> None:
        while self._waiting and self._used + self._waiting[0][0] <= self._limit:
            nbytes, future = self._waiting.popleft()
            if not future.done():
                self._used += nbytes
                future.set_result(None)
