"""Clock and readable descriptors of the running loop, without anyio's overhead on asyncio.

anyio's `wait_readable` registers and unregisters the descriptor and wakes a task for each read, which is a noticeable part of a
small task's round trip. On asyncio (and uvloop) a callback is registered once and called by the loop. On trio anyio waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

import anyio

from .futures import OneShotEvent

__all__ = ["clock", "wait_until", "when_readable"]


def clock(loop: asyncio.AbstractEventLoop | None) -> Callable[[], float]:
    """The loop's monotonic clock. Faster than `anyio.current_time`, which looks up the loop in each call. None: trio's loop."""
    return anyio.current_time if loop is None else loop.time


async def wait_until(event: OneShotEvent, deadline: float) -> None:
    """Return when the event is set, or at this time of the loop's clock; infinity: only when the event is set.

    On asyncio it sets the event itself at that time, because a cancel scope costs five times as much.
    """
    if event.loop is None:
        with anyio.CancelScope(deadline=deadline):
            await event.wait()
        return
    timer = None if deadline == inf else event.loop.call_at(deadline, event.set)
    try:
        await event.wait()
    finally:
        if timer is not None:
            timer.cancel()


async def when_readable(loop: asyncio.AbstractEventLoop | None, descriptor: int, callback: Callable[[], bool]) -> None:
    """Call `callback` each time the descriptor is readable, until it returns False or raises. Its error is raised here.

    `loop` is the running loop; None: trio's.
    """
    if loop is not None:
        await _when_readable_asyncio(loop, descriptor, callback)
        return
    while True:
        await anyio.wait_readable(descriptor)
        if not callback():
            return


async def _when_readable_asyncio(loop: asyncio.AbstractEventLoop, descriptor: int, callback: Callable[[], bool]) -> None:
    finished: asyncio.Future[None] = loop.create_future()

    def call() -> None:
        try:
            if callback() or finished.done():
                return
        except BaseException as error:
            if not finished.done():
                finished.set_exception(error)
        else:
            finished.set_result(None)
        loop.remove_reader(descriptor)

    loop.add_reader(descriptor, call)
    try:
        await finished
    finally:
        if not loop.is_closed():
            loop.remove_reader(descriptor)
