"""Server-sent events of a batch: a snapshot, then what has changed, at most ten times a second.

The id of an event is the batch's revision, so a browser that connects again continues after the last event that it has seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ..batches.batch import Batch

__all__ = ["event_stream"]

_COALESCE_S = 0.1
_PING_S = 10.0  # because proxies end connections that are silent
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def event_stream(request: Request, batch: Batch, duration_s: float, closing: asyncio.Event) -> StreamingResponse:
    """Returns the events from the revision in `Last-Event-ID` on, or from a snapshot. It ends when the server closes."""
    last = request.headers.get("last-event-id", "")
    since = int(last) if last.isdecimal() and int(last) <= batch.revision else -1
    return StreamingResponse(_events(batch, since, duration_s, closing), 200, _HEADERS, "text/event-stream")


async def _events(batch: Batch, since: int, duration_s: float, closing: asyncio.Event) -> AsyncIterator[bytes]:
    end = asyncio.get_running_loop().time() + duration_s
    yield b"retry: 500\n\n"
    with batch.listener() as changed:
        while not batch.is_dropped:
            if since != batch.revision or since < 0:
                body = msgspec.json.encode(batch.to_dict(since))
                since = batch.revision
                yield b"id: %d\ndata: %s\n\n" % (since, body)
            changed.clear()
            left = end - asyncio.get_running_loop().time()
            if left <= 0 or closing.is_set():
                return
            if not await _wait(changed, closing, min(left, _PING_S)):
                yield b": ping\n\n"
    yield b"event: dropped\ndata: {}\n\n"


async def _wait(changed: asyncio.Event, closing: asyncio.Event, timeout_s: float) -> bool:
    """Wait for a change and those that follow soon, or for the end of the server. False: there was none."""
    waits = [asyncio.ensure_future(event.wait()) for event in (changed, closing)]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if changed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_COALESCE_S):
                    await closing.wait()
        return changed.is_set() or closing.is_set()
    finally:
        for wait in waits:
            wait.cancel()
