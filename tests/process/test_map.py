"""`Pool.map`: outcomes as the tasks finish, sources that are pulled when there is room, and every way to leave a batch."""

from __future__ import annotations

import contextvars
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from offloop import Batch, InvalidTask, Operation, Pool, PoolClosed, PoolMisused, Result, Statistics, TaskFailed, TaskTimeout
from offloop.testing.faults import Allocate, Echo, Exit, FaultsPlugin, Hang, Noop, Raise, Wait

pytestmark = pytest.mark.anyio


async def until(pool: Pool, condition: Callable[[Statistics], bool]) -> None:
    with anyio.fail_after(20):
        while not condition(pool.statistics()):
            await anyio.sleep(0.005)


def is_free(pool: Pool) -> bool:
    """Whether no task is left, and no memory is held."""
    gc.collect()
    numbers = pool.statistics()
    held = {holder for holder, count in numbers.leases.items() if count}
    return not (numbers.waiting or numbers.running or held - {"preallocated"})


async def test_every_source_has_one_outcome(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        sources = [bytes([index]) * 5000 for index in range(100)]
        async with pool.map(sources, [Echo()]) as outcomes:
            found = {outcome.index: bytes(outcome.unwrap()) async for outcome in outcomes}
            assert found == dict(enumerate(sources))
            progress = outcomes.progress
        assert (progress.total, progress.done, progress.failed, progress.fraction, progress.eta_s) == (100, 100, 0, 1.0, 0.0)
        assert is_free(pool)


async def test_ordered_outcomes_come_in_the_order_of_the_sources(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        pairs = [(bytes([index]), [Wait(0.05 * (index % 3 == 0)), Echo()]) for index in range(20)]
        async with pool.map(pairs, ordered=True) as outcomes:
            assert [outcome.index async for outcome in outcomes] == list(range(20))


async def test_outcomes_come_as_the_tasks_finish(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        async with pool.map([(b"slow", [Hang()]), *[(b"quick", [Noop()])] * 5], timeout=1.0) as outcomes:
            order = [outcome.index async for outcome in outcomes]
        assert order == [1, 2, 3, 4, 5, 0]


@pytest.mark.every_loop
async def test_a_loop_without_a_block_works_too(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        assert [outcome.index async for outcome in pool.map([b"a", b"b"], [Echo()], ordered=True)] == [0, 1]
        async for outcome in pool.map((b"" for _ in range(1000)), [Noop()]):
            assert outcome.error is None
            break
        await until(pool, lambda _: is_free(pool))


async def test_the_failure_of_a_task_is_its_outcome(anyio_backend: object) -> None:
    pairs: list[tuple[Any, list[Operation]]] = [
        (b"", [Noop()]),
        (b"", [Raise()]),
        (b"", [Exit(3)]),
        ("text", [Noop()]),
        (b"", []),
        (Path("/nonexistent"), [Noop()]),
        (b"", [Noop()]),
    ]
    async with Pool(1, plugins=[FaultsPlugin]) as pool, pool.map(pairs, ordered=True) as outcomes:
        names = [type(outcome.error).__name__ async for outcome in outcomes]
        assert names == ["NoneType", "TaskFailed", "WorkerDied", "InvalidTask", "InvalidTask", "InvalidTask", "NoneType"]
        assert (outcomes.progress.done, outcomes.progress.failed) == (2, 5)


async def test_a_failed_outcome_raises_its_error_when_it_is_unwrapped(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, pool.map([b""], [Raise()]) as outcomes:
        outcome = await anext(outcomes)
        with pytest.raises(TaskFailed, match="as ordered"):
            outcome.unwrap()


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_time_out_is_an_outcome(anyio_backend: object, ordered: bool) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        async with pool.map([b"", b""], [Hang()], timeout=0.1, ordered=ordered) as outcomes:
            assert [type(outcome.error) async for outcome in outcomes] == [TaskTimeout, TaskTimeout]


# Sources


async def test_sources_are_pulled_when_there_is_room(anyio_backend: object) -> None:
    pulled = 0

    def sources() -> Iterator[bytes]:
        nonlocal pulled
        for _ in range(10_000):
            pulled += 1
            yield b"x"

    async with Pool(1, plugins=[FaultsPlugin]) as pool, pool.map(sources(), [Echo()], max_in_flight=3) as outcomes:
        await until(pool, lambda numbers: numbers.completed == 3)
        await anyio.wait_all_tasks_blocked()
        assert pulled == 3
        await anext(outcomes)
        await until(pool, lambda numbers: numbers.completed == 4)
        await anyio.wait_all_tasks_blocked()
        assert pulled == 4
        assert outcomes.progress.total is None


async def test_sources_are_not_pulled_while_others_wait_for_memory(anyio_backend: object) -> None:
    pulled = 0

    def sources() -> Iterator[bytes]:
        nonlocal pulled
        for _ in range(1000):
            pulled += 1
            yield bytes(1 << 20)

    async with Pool(2, plugins=[FaultsPlugin], memory_limit="256MiB") as pool:
        async with pool.map(sources(), [Hang()], max_in_flight=500) as outcomes:
            await until(pool, lambda numbers: numbers.running == 2)
            await until(pool, lambda numbers: numbers.waiting >= 2)
            await anyio.sleep(0.1)
            assert pulled <= 8
            assert outcomes.progress.done == 0
        assert is_free(pool)


@pytest.mark.every_loop
async def test_an_async_iterable_is_pulled_in_the_context_of_the_caller(anyio_backend: object) -> None:
    request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")
    seen: set[str] = set()

    async def sources() -> AsyncIterator[bytes]:
        for index in range(20):
            seen.add(request_id.get())
            await anyio.sleep(0)
            yield bytes([index])

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        request_id.set("caller's")
        async with pool.map(sources(), [Echo()], ordered=True) as outcomes:
            assert [bytes(outcome.unwrap())[0] async for outcome in outcomes] == list(range(20))
            assert outcomes.progress.total == 20
    assert seen == {"caller's"}


async def test_an_error_of_the_iterator_comes_after_the_outcomes_before_it(anyio_backend: object) -> None:
    def sources() -> Iterator[bytes]:
        yield b"a"
        yield b"b"
        raise OSError("the disk is gone")

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        seen: list[int] = []
        with pytest.raises(OSError, match="the disk is gone"):
            async with pool.map(sources(), [Echo()], ordered=True) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome.index)
                    del outcome
        assert seen == [0, 1]
        assert is_free(pool)


@pytest.mark.every_loop
async def test_a_generator_is_closed_when_the_batch_is_left(anyio_backend: object) -> None:
    closed: list[str] = []

    def numbers() -> Iterator[bytes]:
        try:
            while True:
                yield b""
        finally:
            closed.append("generator")

    async def async_numbers() -> AsyncIterator[bytes]:
        try:
            while True:
                await anyio.sleep(0)
                yield b""
        finally:
            closed.append("async generator")

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        for sources in (numbers(), async_numbers()):
            async with pool.map(sources, [Noop()]) as outcomes:
                await anext(outcomes)
    assert closed == ["generator", "async generator"]


@pytest.mark.every_loop
async def test_a_generator_that_raises_when_it_is_closed_leaves_the_pool_alone(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    def endless() -> Iterator[bytes]:
        try:
            while True:
                yield b""
        finally:
            raise OSError("not closed")

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with anyio.fail_after(20):
            async with pool.map(endless(), [Noop()]) as outcomes:
                await anext(outcomes)
        (record,) = [record for record in caplog.records if record.name == "offloop.batch"]
        assert record.exc_info is not None
        assert "not closed" in str(record.exc_info[1])
        assert bytes(await pool.run(b"next", [Echo()])) == b"next"


async def test_an_item_that_is_no_pair_is_named(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with pytest.raises(InvalidTask, match="every item must be a pair"):
            no_pairs: Any = [b"no pair"]
            async with pool.map(no_pairs) as outcomes:
                await anext(outcomes)
        with pytest.raises(TypeError, match="iterable of sources"):
            pool.map(b"one source", [Noop()])  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidTask):
            pool.map([b""], [])
        with pytest.raises(ValueError, match="max_in_flight=0"):
            pool.map([b""], [Noop()], max_in_flight=0)


async def test_results_go_to_files(anyio_backend: object, tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    for name in names:
        (tmp_path / name).write_text(name * 10)
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        sources = [tmp_path / name for name in names]
        async with pool.map(sources, [Echo()], to=lambda path: path.with_suffix(".out")) as outcomes:
            paths = [outcome.unwrap().path async for outcome in outcomes]
    assert sorted(path.read_text() for path in paths if path is not None) == [name * 10 for name in names]


# Leaving


@pytest.mark.every_loop
async def test_leaving_early_cancels_the_tasks_and_frees_all(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        async with pool.map([b"x" * 5000] * 1000, [Wait(0.01), Echo()]) as outcomes:
            await anext(outcomes)
        assert is_free(pool)
        assert pool.statistics().cancelled >= 1


@pytest.mark.every_loop
async def test_a_batch_that_is_deleted_unread_ends_and_frees_all(anyio_backend: object) -> None:
    pulled = 0

    def sources() -> Iterator[bytes]:
        nonlocal pulled
        while True:
            pulled += 1
            yield b"x" * 5000

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        batch: Batch[bytes] | None = pool.map(sources(), [Wait(0.01), Echo()], max_in_flight=2)
        await anext(batch)
        del batch
        await until(pool, lambda numbers: not numbers.running and not numbers.waiting)
        assert is_free(pool)
        before = pulled
        assert bytes(await pool.run(b"next", [Echo()])) == b"next"
        assert pulled == before


async def test_a_reader_that_never_reads_holds_a_few_results_only(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.map([b""] * 1000, [Allocate(5000)]):
            await until(pool, lambda numbers: numbers.leases["caller"] == 8)
            await anyio.wait_all_tasks_blocked()
            assert pool.statistics().submitted == 8
        assert is_free(pool)


async def test_an_outcome_outlives_its_batch_and_its_pool(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, pool.map([b"kept" * 2000], [Echo()]) as outcomes:
        result: Result = (await anext(outcomes)).unwrap()
    assert bytes(result) == b"kept" * 2000


@pytest.mark.every_loop
async def test_a_thousand_batches_are_cancelled_at_once(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:

        async def read(batch: Batch[bytes]) -> None:
            async with batch:
                async for _ in batch:
                    pass

        async with anyio.create_task_group() as readers:
            for _ in range(1000):
                readers.start_soon(read, pool.map([b"x"] * 50, [Wait(0.01), Echo()], max_in_flight=2))
            await until(pool, lambda numbers: numbers.completed > 2)
            readers.cancel_scope.cancel()
        assert is_free(pool)
        assert bytes(await pool.run(b"next", [Echo()])) == b"next"


@pytest.mark.every_loop
async def test_a_pool_that_closes_ends_its_batches(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        unread = pool.map([b""] * 100, [Noop()])
        await anext(unread)
        batch = pool.map([b""] * 100, [Hang()])
        await batch.__aenter__()
        await until(pool, lambda numbers: numbers.running == 1)
    for ended in (batch, unread):
        with pytest.raises(PoolClosed):
            async for outcome in ended:
                outcome.unwrap()
        await ended.__aexit__(None, None, None)
    with pytest.raises(PoolClosed):
        pool.map([b""], [Noop()])


async def test_a_draining_pool_finishes_what_was_pulled(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        async with pool.map([b""] * 1000, [Noop()], max_in_flight=2) as outcomes, anyio.create_task_group() as tasks:
            await anext(outcomes)
            tasks.start_soon(pool.drain)
            with pytest.raises(PoolClosed):
                async for outcome in outcomes:
                    outcome.unwrap()


async def test_two_readers_of_one_batch_are_refused(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool, pool.map([b""], [Hang()]) as outcomes:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, outcomes)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(PoolMisused, match="two tasks read"):
                await anext(outcomes)
            tasks.cancel_scope.cancel()


async def test_the_fraction_of_a_batch_never_decreases(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        pairs = [(b"", [Wait(0.001 * (index % 7))]) for index in range(60)]
        async with pool.map(pairs) as outcomes:
            fractions = [outcomes.progress.fraction or 0.0]
            fractions += [outcomes.progress.fraction or 0.0 async for _ in outcomes]
        assert fractions == sorted(fractions)
        assert (fractions[0], fractions[-1]) == (0.0, 1.0)
