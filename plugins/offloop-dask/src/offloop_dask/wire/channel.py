"""Channel: one dask comm that carries our messages, with strict decoding."""

from __future__ import annotations

import asyncio
from typing import Any, Generic, TypeVar

import msgspec
from distributed.comm.core import Comm, CommClosedError

from .messages import CHUNK_NBYTES, MAX_REQUEST_NBYTES

__all__ = ["Channel", "ChannelClosed"]

MessageT = TypeVar("MessageT")

_MAX_FRAME_NBYTES = CHUNK_NBYTES + MAX_REQUEST_NBYTES + 64 * 1024


class ChannelClosed(Exception):
    """The channel is closed. Its text is the reason."""


class Channel(Generic[MessageT]):
    """Sends and receives messages. One task of the loop receives; any may send."""

    def __init__(self, comm: Comm, incoming: Any) -> None:
        """Take over a comm. `incoming`: union of the messages that may come."""
        self._comm: Any = comm
        self._decoder: msgspec.msgpack.Decoder[MessageT] = msgspec.msgpack.Decoder(incoming)
        self._writing = asyncio.Lock()  # a comm has one writer at a time

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return bool(self._comm.closed())

    async def send(self, message: msgspec.Struct) -> None:
        """Send a message. It is queued in the comm, which has no limit: senders of `Data` wait for `Credit`.

        Raises:
            ChannelClosed: the peer is gone.
        """
        encoded = msgspec.msgpack.encode(message)
        async with self._writing:
            try:
                await self._comm.write(encoded)
            except (CommClosedError, OSError) as error:
                raise ChannelClosed(_reason(error)) from None

    async def receive(self) -> MessageT:
        """The next message. A cancelled call closes the channel, because part of a frame may be lost.

        Raises:
            ChannelClosed: the peer is gone, or has sent something that is not a message. The channel is closed.
        """
        try:
            frame = await self._comm.read()
        except (CommClosedError, OSError) as error:
            raise ChannelClosed(_reason(error)) from None
        try:
            if not isinstance(frame, bytes) or len(frame) > _MAX_FRAME_NBYTES:
                raise msgspec.ValidationError(f"a frame is a {type(frame).__name__}, or too long")
            return self._decoder.decode(frame)
        except msgspec.DecodeError as error:
            self.abort()
            raise ChannelClosed(f"the peer has broken the protocol: {error}") from None

    async def close(self) -> None:
        """Send what is queued, and close."""
        await self._comm.close()

    def abort(self) -> None:
        """Close at once."""
        self._comm.abort()


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
