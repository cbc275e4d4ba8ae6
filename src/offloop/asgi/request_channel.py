"""Cancels work when the client of a request leaves.

ASGI tells that a client has left by a message that follows the messages of the body, and only to an application that waits for
a message. So a second task waits for messages while the work runs. A message of the body that comes meanwhile is kept for the
reader of the body, whether that is the work itself or code after it. The second task reads ahead, but not without bound, so
behind a long body that is not read, a client that leaves is not noticed: the network does not show it either.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import anyio
from starlette.requests import ClientDisconnect, Request

from .problems import Problem

__all__ = ["cancel_on_disconnect", "run_until_disconnect"]

ValueT = TypeVar("ValueT")

_READ_AHEAD = 16  # messages of a body, up to 64 KiB each, in the server's own memory


async def run_until_disconnect(request: Request, work: Awaitable[ValueT]) -> ValueT:
    """Await the work, and cancel it if the client leaves before.

        result = await run_until_disconnect(request, pool.run(source, pipeline))

    The body of the request may have been read before, or be read by the work or after it.

    Raises:
        ClientDisconnect: the client has left. The work was cancelled, and its memory is returned.
        Exception: every error of the work.
    """
    async with cancel_on_disconnect(request):
        return await work


@asynccontextmanager
async def cancel_on_disconnect(
    request: Request, *, idle_timeout: float | None = None, total_timeout: float | None = None
) -> AsyncGenerator[None]:
    """Cancel the block if the client leaves.

    Args:
        request: the request. Its body may be read before, in the block, or after it.
        idle_timeout: seconds without a byte of the body after which the block is cancelled; None: no limit.
        total_timeout: seconds in which the whole body must have come; None: no limit.

    Raises:
        ClientDisconnect: the client has left before the block ended.
        Problem: 408: the body comes too slowly.
        Exception: every error of the block.
    """
    channel = _Channel.of(request)
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as both:

            async def watch() -> None:
                nonlocal failure
                failure = await channel.wait_for_end(idle_timeout or math.inf, total_timeout or math.inf)
                both.cancel_scope.cancel()

            both.start_soon(watch)
            try:
                yield
                failure = None
            except Exception as error:  # kept out of the group, which would wrap it
                failure = error
            both.cancel_scope.cancel()
        if failure is not None:
            raise failure
    finally:
        del failure  # because the traceback of the error refers to this frame: a reference cycle that would hold memory


class _Channel:
    """The messages of a request, which are received one at a time and read in order."""

    def __init__(self, request: Request) -> None:
        self._receive = request.receive
        self._receiving = anyio.Lock()  # held by the task that waits for a message
        self._kept: deque[Any] = deque()  # messages that were received and not read yet
        self._room = anyio.Event()  # set when a message was read
        self._has_body = False  # whether the last message of the body was received
        self._has_left = False  # whether the client has left; that message stays in `_kept`

    @classmethod
    def of(cls, request: Request) -> _Channel:
        """Return the channel of a request. From now on the request reads its messages from there."""
        channel = getattr(request.receive, "__self__", None)
        if not isinstance(channel, _Channel):
            channel = cls(request)
            cast("Any", request)._receive = channel.read  # noqa: SLF001 (no public way to change where a request reads)
        return channel

    async def read(self) -> Any:
        """Return the next message."""
        while not self._kept:
            await self._keep_next()
        message = self._kept[0] if self._has_left and len(self._kept) == 1 else self._kept.popleft()
        self._room.set()
        self._room = anyio.Event()
        return message

    async def wait_for_end(self, idle_s: float, total_s: float) -> Exception:
        """Receive messages until the client has left, and return `ClientDisconnect`; or a `Problem` if they come too slowly."""
        deadline = anyio.current_time() + total_s
        while not self._has_left:
            if len(self._kept) >= _READ_AHEAD:
                await self._room.wait()
                continue
            limit = math.inf if self._has_body else min(anyio.current_time() + idle_s, deadline)
            with anyio.CancelScope(deadline=limit) as scope:
                await self._keep_next()
            if scope.cancelled_caught:
                return Problem(408, "too_slow", "the body of the request came too slowly", {"connection": "close"})
        return ClientDisconnect()

    async def _keep_next(self) -> None:
        """Receive a message, unless another task has received one meanwhile."""
        kept = len(self._kept)
        async with self._receiving:
            if len(self._kept) > kept or self._has_left:
                return
            message = await self._receive()
            self._kept.append(message)
            self._has_left = message["type"] == "http.disconnect"
            self._has_body = self._has_body or self._has_left or not message.get("more_body", False)
