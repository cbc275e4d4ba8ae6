"""Calling back whenever a descriptor is readable.

anyio's `wait_readable` registers and unregisters the descriptor and wakes a task for each read; that is a fifth of a
small task's round trip. Where the loop is asyncio's (or uvloop) the callback is registered once and runs in the loop's
own turn; elsewhere a task waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

__all__ = ["clock", "when_readable"]


def clock() -> Callable[[], float]:
    """The running loop's monotonic clock, found once: `anyio.current_time` looks for the loop at every call."""
    loop = _asyncio_loop()
    return anyio.current_time if loop is None else loop.time


async def when_readable(descriptor: int, callback: Callable[[], bool]) -> None:
    """Call `callback` each time the descriptor is readable, until it returns False or raises, which is raised here."""
    loop = _asyncio_loop()
    if loop is not None:
        await _when_readable_asyncio(loop, descriptor, callback)
        return
    while True:
        await anyio.wait_readable(descriptor)
        if not callback():
            return


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None  # trio


async def _when_readable_asyncio(
    loop: asyncio.AbstractEventLoop, descriptor: int, callback: Callable[[], bool]
) -> None:
    over: asyncio.Future[None] = loop.create_future()

    def call() -> None:
        try:
            if callback() or over.done():
                return
        except BaseException as error:
            if not over.done():
                over.set_exception(error)
        else:
            over.set_result(None)
        loop.remove_reader(descriptor)

    loop.add_reader(descriptor, call)
    try:
        await over
    finally:
        loop.remove_reader(descriptor)
