"""No call leaves a reference cycle: its objects are freed at once, also when the garbage collector is off."""

from __future__ import annotations

import asyncio
import gc
import types
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from offloop import Buffer, OffloopError, Pool, Result
from offloop.client.submission import Submission
from offloop.core.model.events import WorkerSpawned
from offloop.runtime.loop.futures import BlockFuture, TaskFuture
from offloop.testing.faults import Allocate, Echo, Exit, FaultsPlugin, Hang, Raise, Wait

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]

MIB = 1024 * 1024
ASYNCIO = [pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")]

FILES = {
    "pool.py",
    "submission.py",
    "buffers.py",
    "appraisal.py",
    "client/staging/stager.py",
    "runtime/supervisor.py",
    "runtime/conditions.py",
}

Call = Callable[[Pool], Awaitable[object]]


class Source(bytearray):
    """A source that is found again in garbage."""


def is_of_a_call(garbage: object) -> bool:
    """Whether it is an error of ours, a source, or what a call of ours consists of."""
    code = getattr(garbage, "f_code", None) or getattr(garbage, "cr_code", None)
    if isinstance(code, types.CodeType):
        return code.co_filename.rpartition("/offloop/")[2] in FILES
    return isinstance(garbage, (OffloopError, Source, Buffer, Result, TaskFuture, BlockFuture, Submission))


async def end(call: Callable[[], Awaitable[object]]) -> str:
    """Await it, and forget what it returns or raises; how it ended."""
    try:
        await call()
    except (Exception, asyncio.CancelledError) as error:
        return type(error).__name__
    return "returned"


async def garbage_of(call: Callable[[], Awaitable[object]], ends: str) -> list[str]:
    """What is left in cycles after a call that must end like that."""
    assert await end(call) == ends, "the first time, for what is made once"
    await anyio.sleep(0.01)
    gc.collect()
    gc.disable()
    try:
        assert await end(call) == ends
        await anyio.sleep(0.01)  # tasks of the loop that end after the call
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        return [repr(found)[:200] for found in gc.garbage if is_of_a_call(found)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def too_much() -> AsyncIterator[Any]:
    yield Source(1000)
    yield Source(1000)


async def broken() -> AsyncIterator[Any]:
    yield Source(1000)
    raise ConnectionError


async def never() -> AsyncIterator[Any]:
    yield Source(1000)
    await anyio.sleep_forever()


async def cancelled(call: Awaitable[object]) -> None:
    with anyio.move_on_after(0.05):
        await call


async def full_inbox(pool: Pool, call: Callable[[], Awaitable[object]]) -> None:
    held = [await pool.buffer(60 * MIB).ready() for _ in range(3)]
    try:
        await call()
    finally:
        held.clear()


async def view_of(buffer: Any) -> None:
    _ = buffer.view


async def filled(pool: Pool) -> Any:
    buffer = await pool.buffer(100_000).ready()
    buffer.view[:3] = b"abc"
    return buffer


async def run_filled(pool: Pool) -> object:
    return await pool.run(await filled(pool), [Echo()])


ENDINGS: dict[str, tuple[str, Call]] = {
    "run: a result": ("returned", lambda pool: pool.run(Source(100_000), [Echo()])),
    "run: a large result": ("returned", lambda pool: pool.run(Source(3 * MIB), [Echo()])),
    "run: refused by the processor": ("TaskFailed", lambda pool: pool.run(Source(100_000), [Raise("task_failed")])),
    "run: an exception": ("TaskFailed", lambda pool: pool.run(Source(3 * MIB), [Raise()])),
    "run: too long": ("TaskTimeout", lambda pool: pool.run(Source(1000), [Wait(60)], timeout=0.05)),
    "run: killed": ("TaskTimeout", lambda pool: pool.run(Source(1000), [Hang("hold_gil")], timeout=0.05)),
    "run: a death": ("WorkerDied", lambda pool: pool.run(Source(1000), [Exit(3)])),
    "run: a result that never fits": ("MemoryLimitExceeded", lambda pool: pool.run(Source(10), [Allocate(1 << 32)])),
    "run: a source that never fits": ("MemoryLimitExceeded", lambda pool: pool.run(Source(300 * MIB), [Echo()])),
    "run: no source": ("InvalidTask", lambda pool: pool.run(object(), [Echo()])),  # pyright: ignore[reportArgumentType]
    "run: no file": ("InvalidTask", lambda pool: pool.run(Path("/nonexistent"), [Echo()])),
    "run: no pipeline": ("InvalidTask", lambda pool: pool.run(Source(10), [])),
    "run: a wrong setting": ("ValueError", lambda pool: pool.run(Source(10), [Echo()], timeout=-1)),
    "run: the queue is full": (
        "QueueFull",
        lambda pool: pool.run(Source(100_000), [Echo()]),
    ),
    "run: a buffer, the queue is full": ("QueueFull", run_filled),
    "run: an error without a text": ("TaskFailed", lambda pool: pool.run(Source(10), [Raise("textless")])),
    "run: too long for memory": (
        "QueueTimeout",
        lambda pool: full_inbox(pool, lambda: pool.run(Source(60 * MIB), [Echo()], queue_timeout=0.05)),
    ),
    "run: cancelled": ("returned", lambda pool: cancelled(pool.run(Source(100_000), [Wait(60)]))),
    "run: cancelled for memory": (
        "returned",
        lambda pool: full_inbox(pool, lambda: cancelled(pool.run(Source(60 * MIB), [Echo()]))),
    ),
    "probe: unknown": ("TaskFailed", lambda pool: pool.probe(Source(100_000))),
    "probe: no file": ("InvalidTask", lambda pool: pool.probe(Path("/nonexistent"))),
    "buffer: too large": ("MemoryLimitExceeded", lambda pool: pool.buffer(1 << 40).ready()),
    "buffer: cancelled": ("returned", lambda pool: full_inbox(pool, lambda: cancelled(pool.buffer(60 * MIB).ready()))),
    "buffer: its view has no room": (
        "MemoryLimitExceeded",
        lambda pool: full_inbox(pool, lambda: view_of(pool.buffer(60 * MIB))),
    ),
    "receive: all": ("returned", lambda pool: pool.receive(too_much())),
    "receive: too much": ("SourceTooLarge", lambda pool: pool.receive(too_much(), max_bytes=1500)),
    "receive: broken": ("ConnectionError", lambda pool: pool.receive(broken())),
    "receive: cancelled": ("returned", lambda pool: cancelled(pool.receive(never()))),
    "resize: too many": ("ValueError", lambda pool: pool.resize(100_000)),
    "resize: cancelled": ("returned", lambda pool: cancelled(pool.resize(2))),
}


@pytest.mark.parametrize("anyio_backend", ASYNCIO)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_no_call_leaves_a_cycle(anyio_backend: object, ending: str) -> None:
    ends, call = ENDINGS[ending]
    async with anyio.create_task_group() as others:
        async with Pool(
            1, plugins=[FaultsPlugin], memory_limit="256MiB", max_queue=1, grace=0.05, quarantine_after=None
        ) as pool:
            for _ in range(2 if ends == "QueueFull" else 0):  # one for the worker, one for the queue's only place
                others.start_soon(end, lambda: pool.run(b"", [Wait(60)]))
                await anyio.sleep(0.05)
            assert await garbage_of(lambda: call(pool), ends) == []


@pytest.mark.parametrize("ending", ["run: cancelled", "run: too long", "run: cancelled for memory", "receive: cancelled"])
async def test_no_cancelled_call_leaves_a_cycle_on_any_loop(anyio_backend: object, ending: str) -> None:
    ends, call = ENDINGS[ending]
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="256MiB", max_queue=1, grace=0.05) as pool:
        assert await garbage_of(lambda: call(pool), ends) == []


@pytest.mark.parametrize("anyio_backend", ASYNCIO)
async def test_no_call_of_a_closed_pool_leaves_a_cycle(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        await pool.drain()
        for call in (lambda: pool.run(Source(10), [Echo()]), lambda: pool.resize(2), lambda: pool.__aenter__()):  # noqa: PLW0108
            assert await garbage_of(call, "PoolClosed") == []


@pytest.mark.parametrize("anyio_backend", ASYNCIO)
async def test_no_call_that_a_closing_pool_ends_leaves_a_cycle(anyio_backend: object) -> None:
    async def close_in_the_middle() -> None:
        pool = Pool(1, plugins=[FaultsPlugin], grace=0.05)
        async with anyio.create_task_group() as task_group:
            async with pool:
                task_group.start_soon(end, lambda: pool.run(Source(10), [Wait(60)]))
                task_group.start_soon(end, lambda: pool.run(Source(10), [Wait(60)]))
                await anyio.sleep(0.02)

    assert [
        found for found in await garbage_of(close_in_the_middle, "returned") if "PoolClosed" in found or "Source" in found
    ] == []


@pytest.mark.parametrize("anyio_backend", ASYNCIO)
@pytest.mark.parametrize("ends", ["PluginError", "WorkerDied", "InternalError"])
async def test_an_error_of_entering_or_leaving_goes_with_its_last_reference(
    anyio_backend: object, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def enter() -> weakref.ref[Exception]:
        plugins: list[Any] = ["no such plugin"] if ends == "PluginError" else [FaultsPlugin]
        try:
            async with Pool(1, plugins=plugins) as pool:
                supervisor: Any = pool._supervisor
                supervisor.apply(WorkerSpawned(99, 1))  # a defect: there is no such slot
        except OffloopError as error:
            return weakref.ref(error)
        pytest.fail("nothing was raised")

    if ends == "WorkerDied":
        monkeypatch.setattr("sys.executable", "/nonexistent/python")
    gc.disable()
    try:
        raised = await enter()
        await anyio.sleep(0.01)
        assert raised() is None, ends
    finally:
        gc.enable()
