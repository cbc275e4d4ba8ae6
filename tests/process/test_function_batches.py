"""Functions with several sources, batches of calls, streams of values, and the memory that calls may take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import pytest

from offloop import InvalidTask, Pool, TaskFailed, TaskTimeout

pytestmark = pytest.mark.anyio

BIG = bytes(range(256)) * 100


@pytest.fixture
async def pool(offloop_pool_factory: Callable[..., Awaitable[Pool]]) -> Pool:
    return await offloop_pool_factory(1, plugins=["functions"], memory_limit="512MiB")


async def test_several_arguments_travel_in_shared_memory(anyio_backend: object, pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(BIG)
    buffer = pool.buffer(len(BIG))
    buffer.view[:] = BIG
    array, total = np.arange(1000, dtype=np.int32), sum(BIG)
    found = await pool.call(jobs.total_of, array, [path, buffer, b"short", BIG], last=BIG)
    assert found == (int(array.sum()), [total, total, sum(b"short"), total], len(BIG))
    with pytest.raises(InvalidTask, match="17 sources, and 16 is the limit"):
        await pool.call(jobs.total_of, array, [BIG] * 16)
    assert pool.statistics().leases["caller"] == 0


async def test_a_batch_of_calls_has_values_and_errors(anyio_backend: object, pool: Pool) -> None:
    def arguments() -> Iterator[Any]:
        yield (1,)
        yield {"value": 2}
        yield ("text",)
        yield 3

    async def from_async() -> AsyncIterator[Any]:
        for given in arguments():
            yield given

    for given in (arguments(), from_async()):
        async with pool.map_call(jobs.echo_number, given, ordered=True) as outcomes:
            found = [outcome async for outcome in outcomes]
        assert [outcome.value for outcome in found] == [1, 2, None, None]
        assert [outcome.arguments for outcome in found] == list(arguments())
        assert found[1].unwrap() == 2
        with pytest.raises(InvalidTask, match="the argument value: Expected `int`, got `str`"):
            found[2].unwrap()
        with pytest.raises(InvalidTask, match=r"3 is given as the arguments of a call; give a tuple, as \(value,\)"):
            found[3].unwrap()
        assert (outcomes.progress.done, outcomes.progress.failed) == (2, 2)
    async with pool.map_call(jobs.fail, [("a",)]) as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome.error, TaskFailed)
            assert "the function was jobs.fail" in outcome.error.__notes__


async def test_a_generator_function_is_a_stream_of_values(anyio_backend: object, pool: Pool) -> None:
    async with pool.stream_call(jobs.count_to, 40) as numbers:
        assert [number async for number in numbers] == list(range(40))
    async with pool.stream_call(jobs.frames_of, count=3, nbytes=10_000) as frames:
        assert [int(frame.sum()) async for frame in frames] == [0, 10_000, 20_000]
    async with pool.stream_call(jobs.count_to, 1000, buffer=1) as numbers:
        assert await anext(numbers) == 0
    read: list[int] = []
    with pytest.raises(TaskFailed, match="ValueError: no more") as caught:
        async with pool.stream_call(jobs.fail_after, 3) as numbers:
            async for number in numbers:
                read.append(number)  # noqa: PERF401 (those before the error are wanted)
    assert read == [0, 1, 2]
    assert "the function was jobs.fail_after" in caught.value.__notes__
    with pytest.raises(InvalidTask, match="is no generator function, so it has one value; use call"):
        pool.stream_call(jobs.echo_number, 1)  # pyright: ignore[reportArgumentType]
    assert await pool.call(jobs.echo_number, 1) == 1


async def test_one_call_may_have_a_limit_of_memory(anyio_backend: object, pool: Pool) -> None:
    assert await pool.call(jobs.allocate, 100_000_000) == 100_000_000
    with pytest.raises(TaskFailed, match="or it is that of the call") as caught:
        await pool.call(jobs.allocate, 100_000_000, memory_limit="50MiB")
    assert caught.value.code == "memory_limit"
    with pytest.raises(ValueError, match="memory_limit=5"):
        await pool.call(jobs.allocate, 1, memory_limit="5")
    assert await pool.call(jobs.allocate, 1000, memory_limit="50MiB") == 1000


async def test_the_first_calls_of_a_function_may_take_all_memory_and_later_ones_what_was_learned(
    anyio_backend: object, offloop_pool_factory: Callable[..., Awaitable[Pool]]
) -> None:
    pool = await offloop_pool_factory(min_workers=1, max_workers=8, plugins=["functions"], memory_limit="600MiB")
    for _ in range(6):  # a guess of 32 MiB and an eighth of the slack would not be enough
        assert await pool.call(jobs.allocate, 300_000_000) == 300_000_000


async def test_progress_of_a_function_reaches_its_caller(anyio_backend: object, pool: Pool) -> None:
    seen: list[float] = []
    with pytest.raises(TaskTimeout):
        await pool.call(jobs.watch, timeout=0.4, on_progress=lambda progress: seen.append(progress.fraction))
    assert 0.25 in seen
