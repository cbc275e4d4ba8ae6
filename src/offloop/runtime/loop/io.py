"""What the host needs of the loop underneath, at the loop's own price.

anyio's `wait_readable` registers and unregisters the descriptor and wakes a task for each read, and its `Event` finds
the loop anew each time; together that is a noticeable part of a small task's round trip. Where the loop is asyncio's (or
uvloop), a callback is registered once and runs in the loop's own turn, and a future is awaited; elsewhere anyio does
both.
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
    """The loop's monotonic clock, found once: `anyio.current_time` looks for the loop at every call. None: trio's loop."""
    return anyio.current_time if loop is None else loop.time


async def wait_for(signal: OneShotEvent) -> None:
    """Return once it is set."""
    if signal.is_set:
        return
    loop = signal.loop
    if loop is not None:
        future: asyncio.Future[None] = loop.create_future()
        signal.futures += (future,)
        try:
            await future
        except BaseException:
            signal.futures = tuple(other for other in signal.futures if other is not future)  # nothing is left behind
            raise
        return
    if signal.event is None:
        signal.event = anyio.Event()
    await signal.event.wait()


async def wait_uncancellable(signal: OneShotEvent) -> None:
    """Return once it is set; a cancellation meanwhile is raised then. asyncio's own `Task.cancel` goes through shields.

    In a forked child, where nobody is left to set it, a cancellation is raised at once.
    """
    held: BaseException | None = None
    born = fork_safety.generation()
    with anyio.CancelScope(shield=True):
        while not signal.is_set and (held is None or born == fork_safety.generation()):
            try:
                await wait_for(signal)
            except anyio.get_cancelled_exc_class() as cancellation:
                held = cancellation
    if held is not None:
        try:
            raise held
        finally:
            del held  # its traceback refers to this frame, and to all that its callers hold


async def when_readable(loop: asyncio.AbstractEventLoop | None, descriptor: int, callback: Callable[[], bool]) -> None:
    """Call `callback` each time the descriptor is readable, until it returns False or raises, which is raised here.

    `loop` is the running one; None: trio's.
    """
    if loop is not None:
        await _when_readable_asyncio(loop, descriptor, callback)
        return
    while True:
        await anyio.wait_readable(descriptor)
        if not callback():
            return


async def _when_readable_asyncio(loop: asyncio.AbstractEventLoop, descriptor: int, callback: Callable[[], bool]) -> None:
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
        if not loop.is_closed():
            loop.remove_reader(descriptor)
