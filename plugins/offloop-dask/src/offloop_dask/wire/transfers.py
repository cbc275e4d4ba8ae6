"""Transfers: a source that arrives from the client, and a result that leaves for it, in pieces that the receiver grants."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from .messages import CHUNK_NBYTES, WINDOW_NBYTES, Credit, Data

__all__ = ["Incoming", "Outgoing", "TransferError"]

Send = Callable[[msgspec.Struct], Awaitable[None]]


class TransferError(Exception):
    """The peer has sent a piece that was not granted, or has granted more than there is."""


class Incoming:
    """Receives one source or result into memory."""

    def __init__(self, task_id: int, number: int, memory: memoryview, send: Send) -> None:
        """`memory`: where the bytes go. `send`: sends a message to the peer."""
        self._task_id = task_id
        self._number = number
        self._memory = memory
        self._send = send
        self._received = 0
        self._granted = 0
        self._complete = asyncio.Event()

    async def wait(self) -> None:
        """Grant the first bytes; return when all have arrived. The memory is not referred to any more after that."""
        try:
            await self._grant()
            await self._complete.wait()
        finally:
            self._memory = memoryview(b"")

    async def write(self, data: Data) -> None:
        """Take a piece.

        Raises:
            TransferError: it is not the next one, or was not granted.
        """
        end = data.offset + len(data.data)
        if data.offset != self._received or end > self._granted:
            raise TransferError(f"bytes {data.offset} to {end} of task {data.task_id} were not granted")
        if not self._memory.nbytes:
            return  # the task was cancelled meanwhile
        self._memory[data.offset : end] = data.data
        self._received = end
        if end == self._memory.nbytes:
            self._complete.set()
        else:
            await self._grant()

    async def _grant(self) -> None:
        """Grant more when half of the window is used up."""
        if not self._memory.nbytes:
            self._complete.set()
            return
        upto = min(self._received + WINDOW_NBYTES, self._memory.nbytes)
        if upto > self._granted and upto - self._granted >= min(WINDOW_NBYTES // 2, self._memory.nbytes - self._granted):
            self._granted = upto
            await self._send(Credit(self._task_id, self._number, upto))


class Outgoing:
    """Sends one source or result."""

    def __init__(self, task_id: int, number: int, data: memoryview, send: Send) -> None:
        self._task_id = task_id
        self._number = number
        self._data = data
        self._nbytes = data.nbytes
        self._send = send
        self._sent = 0
        self._sending = asyncio.Lock()
        self.complete = asyncio.Event()
        """Set when all bytes were sent."""

    async def grant(self, upto: int) -> None:
        """Send the pieces up to this offset.

        Raises:
            TransferError: there are not so many bytes.
        """
        if upto > self._nbytes:
            raise TransferError(f"{upto} bytes were granted, and there are {self._nbytes}")
        async with self._sending:
            while self._sent < upto and not self.complete.is_set():
                end = min(self._sent + CHUNK_NBYTES, upto)
                await self._send(Data(self._task_id, self._number, self._sent, self._data[self._sent : end]))
                self._sent = end
            if self._sent == self._nbytes:
                self.release()

    def release(self) -> None:
        """Refer to the memory no more."""
        self._data = memoryview(b"")
        self.complete.set()
