"""Clock, events and readable descriptors of the running loop, without anyio's overhead on asyncio.

anyio's `wait_readable` registers and unregisters the descriptor and wakes a task for each read, and its `Event` looks up
the loop each time; together that is a noticeable part of a small task's round trip. On asyncio (and uvloop) a callback is
registered once and called by the loop, and a future is awaited. On trio anyio does both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio

from . import fork_safety

if TYPE_CHECKING:
    from .oneshot_event import OneShotEvent

__all__ = ["clock", "wait_for", "wait_uncancellable", "when_readable"]


def clock(loop: asyncio.AbstractEventLoop | None) -> Callable[[], float]:
    """The loop's monotonic clock. Faster than `anyio.current_time`, which looks up the loop in each call. None: trio's loop."""
    return anyio.current_time if loop is None else loop.time


async def wait_for(event: OneShotEvent) -> None:
    """Return when the event is set."""
    if event.is_set:
        return
    loop = event.loop
    if loop is not None:
        future: asyncio.Future[None] = loop.create_future()
        event.futures += (future,)
        try:
            await future
        except BaseException:
            event.futures = tuple(other for other in event.futures if other is not future)  # a cancelled waiter is removed
            raise
        return
    if event.event is None:
        event.event = anyio.Event()
    await event.event.wait()


async def wait_uncancellable(event: OneShotEvent) -> None:
    """Return when the event is set. A cancellation is raised only then, asyncio's `Task.cancel` too, which ignores shields.

    In a forked child, where the event is never set, a cancellation is raised at once.
    """
    cancelled: BaseException | None = None
    generation = fork_safety.generation()
    with anyio.CancelScope(shield=True):
        while not event.is_set and (cancelled is None or generation == fork_safety.generation()):
            try:
                await wait_for(event)
            except anyio.get_cancelled_exc_class() as error:
                cancelled = error
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # because its traceback refers to this frame: a reference cycle otherwise


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
