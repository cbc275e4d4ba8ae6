"""Waits for an event with a deadline, in each event loop."""

from __future__ import annotations

from math import inf

import anyio
import anyio.lowlevel
import pytest

from offloop.runtime.loop.event_loop import find_asyncio_loop
from offloop.runtime.loop.futures import OneShotEvent
from offloop.runtime.loop.io import clock, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]


@pytest.mark.parametrize("has_deadline", [True, False])
async def test_an_event_ends_the_wait_before_the_deadline(anyio_backend: object, has_deadline: bool) -> None:
    loop = find_asyncio_loop()
    event, now = OneShotEvent(loop), clock(loop)
    async with anyio.create_task_group() as group:
        group.start_soon(wait_until, event, now() + 3600 if has_deadline else inf)
        await anyio.lowlevel.checkpoint()
        event.set()


async def test_the_deadline_ends_the_wait(anyio_backend: object) -> None:
    loop = find_asyncio_loop()
    event, now = OneShotEvent(loop), clock(loop)
    deadline = now() + 0.01
    with anyio.fail_after(20):
        await wait_until(event, deadline)
        while now() < deadline:  # because asyncio may be early by the resolution of its clock
            await anyio.lowlevel.checkpoint()


async def test_a_deadline_in_the_past_ends_the_wait_at_once(anyio_backend: object) -> None:
    loop = find_asyncio_loop()
    with anyio.fail_after(20):
        await wait_until(OneShotEvent(loop), clock(loop)() - 1)


async def test_a_cancelled_wait_leaves_no_timer(anyio_backend: object) -> None:
    loop = find_asyncio_loop()
    event, now = OneShotEvent(loop), clock(loop)
    deadline = now() + 0.01
    with anyio.move_on_after(0):
        await wait_until(event, deadline)
    while now() < deadline + 0.01:
        await anyio.lowlevel.checkpoint()
    assert not event.is_set
