"""Sends the frames of a track to one browser over a WebSocket.

For each frame there is a text message with numbers, then a binary one with a JPEG. The browser answers with the number of
frames that it takes in all. Without such credit nothing is sent, and the pool drops the oldest frame.
"""

from __future__ import annotations

import asyncio

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from offloop import FrameStream, OffloopError, Operation, Pool

from .loop_lag import LoopLag

__all__ = ["send_frames"]

_SILENCE_S = 30.0  # after which a browser without credit is left
_NORMAL, _TRY_LATER = 1000, 1013  # codes of a closed WebSocket


class FrameNumbers(msgspec.Struct, frozen=True):
    """What the browser is told about the frame that follows."""

    index: int  # number of the frame, from 0; dropped frames have numbers, too
    dropped: int  # frames that the browser did not take in time
    time_s: float  # time of the frame in the music
    beat: int  # number of beats so far
    tempo_bpm: float  # beats per minute
    loop_lag_ms: float  # largest delay of the server's event loop in the last second


async def send_frames(websocket: WebSocket, pool: Pool, data: memoryview, pipeline: list[Operation], lag: LoopLag) -> None:
    """Send frames until the music or the browser ends. Nothing of a frame is copied or decoded here."""
    credit = _Credit()
    reading = asyncio.create_task(credit.read(websocket))
    try:
        async with lag.observed(), pool.stream(data, pipeline, buffer=1, overrun="latest") as frames:
            sending = asyncio.create_task(_send(websocket, frames, credit, lag))
            try:
                await asyncio.wait((reading, sending), return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
        if not reading.done():
            await websocket.close(_NORMAL, "end")
    except OffloopError as error:
        if not reading.done():
            await websocket.close(_TRY_LATER, error.public_message[:100])
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _send(websocket: WebSocket, frames: FrameStream, credit: _Credit, lag: LoopLag) -> None:
    sent = 0
    while await credit.more_than(sent):
        frame = await anext(frames, None)
        if frame is None:
            return
        info = frame.info
        numbers = FrameNumbers(
            frame.index, frames.dropped, info.time_s, info.beat, info.tempo_bpm, round(lag.largest_s * 1000, 2)
        )
        await websocket.send_text(msgspec.json.encode(numbers).decode())
        await websocket.send({"type": "websocket.send", "bytes": frame.data})
        sent += 1
        del frame  # so that its memory is returned while the next one is awaited


class _Credit:
    """Number of frames that the browser takes in all."""

    def __init__(self) -> None:
        self._total = 0
        self._changed = asyncio.Event()

    async def read(self, websocket: WebSocket) -> None:
        """Read the browser's messages until it leaves."""
        try:
            while True:
                text = await websocket.receive_text()
                if text.isdecimal():
                    self._total = max(self._total, int(text))
                    self._changed.set()
        except (WebSocketDisconnect, KeyError):  # KeyError: a binary message, which no page of ours sends
            return

    async def more_than(self, sent: int) -> bool:
        """Wait until there is credit. False: the browser gave none for too long."""
        try:
            async with asyncio.timeout(_SILENCE_S):
                while self._total <= sent:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True
