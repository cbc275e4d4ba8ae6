"""Bodies of requests: bytes with limits of time, and JSON with a limit of length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from .problems import Problem

__all__ = ["BodyReader", "announced_length", "read_json"]

_MAX_JSON_BYTES = 1_000_000  # a list of the names of 2,000 files
_READ_AHEAD = 16  # chunks of up to 64 KiB that wait in the server's own memory while there is no shared memory

Value = TypeVar("Value")


def announced_length(request: Request) -> int:
    """Returns the Content-Length; 0 if there is none.

    Raises:
        Problem: it is no number.
    """
    text = request.headers.get("content-length", "0")
    if not text.isdecimal():
        raise Problem(400, "content_length", "The Content-Length is no number.", "Send the length of the file in bytes.")
    return int(text)


async def read_json(request: Request, kind: type[Value] | Any) -> Value:
    """Returns the body as a value of that type.

    Raises:
        Problem: it is too long, or no such value.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_JSON_BYTES:
            raise Problem(
                413, "too_large", f"The request has more than {_MAX_JSON_BYTES:,} bytes.", "Send fewer names at a time."
            )
    try:
        return msgspec.json.decode(bytes(body or b"{}"), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Problem(422, "invalid", f"The request is not understood: {error}.", "See openapi.json of this server.") from None


class BodyReader:
    """Reads a body ahead of its reader, so that a client that leaves is noticed also while the reader waits for memory.

    As an async iterator it gives the chunks. It raises `ClientDisconnect` if the client leaves before the end, and `Problem` if
    the client sends nothing for too long.
    """

    def __init__(self, request: Request, idle_s: float, total_s: float) -> None:
        self._request = request
        self._idle_s = idle_s
        self._total_s = total_s
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(_READ_AHEAD)
        # makes the error if the body did not come to its end; an error itself would refer to this object by its traceback
        self.failure: Callable[[], Exception] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def on_failure(self, callback: Callable[[], object]) -> None:
        """Call the callback if the body does not come to its end."""
        self._task.add_done_callback(lambda _: None if self.failure is None else callback())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
        if self.failure is not None:
            raise self.failure()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._total_s):
                await self._read_to_the_end()
        except ClientDisconnect:
            self._fail(ClientDisconnect)
        except TimeoutError:
            self._fail(_too_slow)

    async def _read_to_the_end(self) -> None:
        stream = self._request.stream()
        chunk: bytes | None = b""
        while chunk is not None:
            if chunk:
                await self._chunks.put(chunk)
            async with asyncio.timeout(self._idle_s):
                chunk = await anext(stream, None)
        await self._chunks.put(None)

    def _fail(self, failure: Callable[[], Exception]) -> None:
        """End the iteration. Chunks that were not read are dropped, because the source is not complete."""
        self.failure = failure
        while not self._chunks.empty():
            self._chunks.get_nowait()
        self._chunks.put_nowait(None)


def _too_slow() -> Problem:
    return Problem(408, "too_slow", "The file came too slowly.", "Retry on a faster connection.")
