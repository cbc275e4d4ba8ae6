"""`Pool.stream`: frames in order and in place, a reader that holds the worker back, and every way in which a stream ends."""

from __future__ import annotations

import gc
from collections.abc import Callable

import anyio
import pytest
from second_plugin import Greet, GreetingPlugin

from offloop import (
    Frame,
    FrameStream,
    InvalidTask,
    Pool,
    PoolClosed,
    PoolMisused,
    Statistics,
    StreamAbandoned,
    TaskFailed,
    TaskTimeout,
    WorkerDied,
)
from offloop.testing.faults import Echo, Emit, Exit, FaultsPlugin, Noop

pytestmark = pytest.mark.anyio


async def indices(frames: FrameStream) -> list[int]:
    """Read all frames; each has the number that its worker gave it."""
    found: list[int] = []
    async for frame in frames:
        assert frame.index == frame.info.index
        found.append(frame.index)
    return found


async def until(pool: Pool, condition: Callable[[Statistics], bool]) -> None:
    with anyio.fail_after(20):
        while not condition(pool.statistics()):
            await anyio.sleep(0.005)


def leases(pool: Pool) -> dict[str, int]:
    """The leases that are held, without those of idle workers."""
    gc.collect()
    return {holder: count for holder, count in pool.statistics().leases.items() if count and holder != "preallocated"}


async def test_frames_come_in_order_and_in_place(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.stream(b"", [Emit(20, 5000)]) as frames:
            async for frame in frames:
                assert frame.data.readonly
                assert (frame.index, bytes(frame)) == (frame.info.index, bytes([frame.index]) * 5000)
                del frame
        assert (frames.dropped, pool.statistics().completed) == (0, 1)
        assert leases(pool) == {}


async def test_a_result_that_is_returned_is_the_last_frame(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.stream(b"", [Emit(3, then="return")]) as frames:
            assert await indices(frames) == [0, 1, 2, 3]
        async with pool.stream(b"abc", [Echo()]) as frames:
            assert [bytes(frame) async for frame in frames] == [b"abc"]
        async with pool.stream(b"", [Emit(0)]) as frames:
            assert await indices(frames) == []


async def test_later_operations_are_applied_to_each_frame(anyio_backend: object) -> None:
    async with (
        Pool(1, plugins=[FaultsPlugin, GreetingPlugin]) as pool,
        pool.stream(b"", [Emit(3), Greet()]) as frames,
    ):
        assert [bytes(frame) async for frame in frames] == [b"hello"] * 3


async def test_run_takes_the_result_and_no_frames(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        result = await pool.run(b"", [Emit(100, then="return")])
        assert result.info.index == 100
        with pytest.raises(Exception, match="returned NoneType"):
            await pool.run(b"", [Emit(100)])


@pytest.mark.parametrize("buffer", [1, 4])
async def test_a_slow_reader_holds_the_worker_back(anyio_backend: object, buffer: int) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="512MiB") as pool:
        async with pool.stream(b"", [Emit(50, 100_000)], buffer=buffer) as frames:
            await until(pool, lambda numbers: numbers.leases["caller"] == buffer)
            await anyio.wait_all_tasks_blocked()
            assert pool.statistics().leases["caller"] == buffer
            assert await indices(frames) == list(range(50))


async def test_with_latest_the_worker_never_waits_and_the_oldest_frames_are_dropped(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.stream(b"", [Emit(200, 5000)], buffer=2, overrun="latest") as frames:
            await until(pool, lambda numbers: numbers.completed == 1)
            left = await indices(frames)
        assert left == [198, 199]
        assert frames.dropped == 198
        assert leases(pool) == {}


async def test_frames_may_outlive_their_stream_and_their_pool(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, pool.stream(b"", [Emit(3, 5000)], buffer=3) as frames:
        kept: list[Frame] = [frame async for frame in frames]
    assert [bytes(frame)[:1] for frame in kept] == [b"\x00", b"\x01", b"\x02"]


# The end of a stream


@pytest.mark.parametrize("then", ["exit", "raise"])
async def test_the_frames_that_came_are_read_before_the_error(anyio_backend: object, then: str) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        seen: list[int] = []
        with pytest.raises(WorkerDied if then == "exit" else TaskFailed):
            async with pool.stream(b"", [Emit(5, 5000, then=then)], buffer=8, retries=3) as frames:  # pyright: ignore[reportArgumentType]
                await until(pool, lambda numbers: numbers.running == 0)
                async for frame in frames:
                    seen.append(frame.index)
                    del frame
        assert seen == [0, 1, 2, 3, 4]
        assert pool.statistics().retried == 0
        assert leases(pool) == {}
        assert bytes(await pool.run(b"next", [Echo()])) == b"next"


async def test_a_task_that_dies_before_its_first_frame_is_retried(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with pytest.raises(WorkerDied):
            async with pool.stream(b"", [Exit(3)], retries=1) as frames:
                await indices(frames)
        assert pool.statistics().retried == 1


async def test_a_frame_that_takes_too_long_ends_the_stream(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        with pytest.raises(TaskTimeout, match=r"exceeded its 0\.2 s"):
            async with pool.stream(b"", [Emit(3, then="hang")], frame_timeout=0.2) as frames:
                await indices(frames)
        assert bytes(await pool.run(b"next", [Echo()])) == b"next"


async def test_the_time_of_a_slow_reader_does_not_count(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.stream(b"", [Emit(4)], buffer=1, frame_timeout=0.5) as frames:
            await anyio.sleep(0.8)
            assert await indices(frames) == [0, 1, 2, 3]


@pytest.mark.every_loop
async def test_a_reader_that_reads_nothing_for_too_long_ends_the_stream(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.stream(b"", [Emit(10, 5000)], buffer=2, idle_timeout=0.1) as frames:
            await until(pool, lambda numbers: numbers.timed_out == 1)
            assert (await anext(frames)).index == 0
            assert (await anext(frames)).index == 1
            with pytest.raises(StreamAbandoned, match=r"no frame was read for 0\.1 s"):
                await anext(frames)
            with pytest.raises(StopAsyncIteration):
                await anext(frames)
        assert leases(pool) == {}


@pytest.mark.every_loop
async def test_leaving_the_block_stops_the_task_and_returns_its_memory(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.stream(b"", [Emit(1000, 5000, pause_s=0.001)]) as frames:
            async for frame in frames:
                if frame.index == 3:
                    del frame
                    break
        numbers = pool.statistics()
        assert (numbers.running, numbers.cancelled, leases(pool)) == (0, 1, {})


@pytest.mark.every_loop
async def test_a_cancelled_reader_stops_the_task(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        with anyio.move_on_after(0.2) as scope:
            async with pool.stream(b"", [Emit(2, then="hang")]) as frames:
                await indices(frames)
        assert scope.cancelled_caught
        assert (pool.statistics().running, leases(pool)) == (0, {})


@pytest.mark.every_loop
async def test_a_hundred_streams_are_cancelled_at_once(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:

        async def read() -> None:
            async with pool.stream(bytes(5000), [Emit(1000, 5000)]) as frames:
                await indices(frames)

        async with anyio.create_task_group() as readers:
            for _ in range(100):
                readers.start_soon(read)
            await until(pool, lambda numbers: numbers.leases["caller"] > 0)
            readers.cancel_scope.cancel()
        numbers = pool.statistics()
        assert (numbers.waiting, numbers.running, leases(pool)) == (0, 0, {})
        assert bytes(await pool.run(b"next", [Echo()])) == b"next"


@pytest.mark.every_loop
async def test_a_pool_that_closes_ends_its_streams(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        stream = pool.stream(b"", [Emit(10)], buffer=1)
        await stream.__aenter__()
    with pytest.raises(PoolClosed):
        await indices(stream)
    await stream.__aexit__(None, None, None)


# Misuse


async def test_a_stream_is_entered_once_and_read_by_one_task(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        with pytest.raises(PoolMisused, match="inside its block"):
            await anext(pool.stream(b"", [Noop()]))
        async with pool.stream(b"", [Emit(0, then="hang")]) as frames:
            with pytest.raises(PoolMisused, match="entered only once"):
                await frames.__aenter__()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anext, frames)
                await anyio.wait_all_tasks_blocked()
                with pytest.raises(PoolMisused, match="two tasks"):
                    await anext(frames)
                tasks.cancel_scope.cancel()


async def test_options_of_a_stream_are_checked_by_the_call(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        for wrong in ({"buffer": 0}, {"buffer": 33}, {"overrun": "never"}, {"frame_timeout": -1}, {"idle_timeout": -1}):
            with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
                pool.stream(b"", [Noop()], **wrong)  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidTask):
            pool.stream("path", [Noop()])  # pyright: ignore[reportArgumentType]
        async with pool.stream(b"", [Noop()]) as frames:
            assert len([frame async for frame in frames]) == 1
