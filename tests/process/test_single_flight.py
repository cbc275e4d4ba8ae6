"""`coalesce=True`: equal calls at the same time share one task, and each can leave without an effect on the others."""

from __future__ import annotations

import gc
import mmap
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from offloop import (
    InvalidTask,
    Operation,
    Pool,
    PoolClosed,
    Progress,
    QueueTimeout,
    Result,
    Statistics,
    TaskFailed,
    TaskTimeout,
    WorkerDied,
)
from offloop.testing.faults import Echo, Exit, FaultsPlugin, Hang, HoldOn, Noop, Preview, Raise, Wait
from offloop.testing.faults import Progress as Report

pytestmark = pytest.mark.anyio


async def until(pool: Pool, condition: Callable[[Statistics], bool]) -> None:
    with anyio.fail_after(20):
        while not condition(pool.statistics()):
            await anyio.sleep(0.005)


def is_free(pool: Pool) -> bool:
    gc.collect()
    numbers = pool.statistics()
    held = {holder for holder, count in numbers.leases.items() if count}
    return not (numbers.waiting or numbers.running or held - {"preallocated"})


class Calls:
    """Calls that run at the same time, with their outcomes in the order of their starts."""

    def __init__(self) -> None:
        self._tasks = anyio.create_task_group()
        self.outcomes: list[Result | Exception | None] = []

    async def __aenter__(self) -> None:
        await self._tasks.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._tasks.__aexit__(kind, error, traceback)

    async def until(self, index: int, kind: type[Exception]) -> str:
        """Wait until a call has raised; returns the text of its error."""
        with anyio.fail_after(20):
            while not isinstance(error := self.outcomes[index], kind):
                await anyio.sleep(0.005)
        return str(error)

    def start(self, call: Awaitable[Result]) -> anyio.CancelScope:
        """Start a call; returns the scope that cancels it."""
        scope, index = anyio.CancelScope(), len(self.outcomes)
        self.outcomes.append(None)

        async def run() -> None:
            with scope:
                try:
                    self.outcomes[index] = await call
                except Exception as error:
                    self.outcomes[index] = error

        self._tasks.start_soon(run)
        return scope

    def data(self) -> list[object]:
        return [bytes(outcome) if isinstance(outcome, Result) else outcome for outcome in self.outcomes]


async def test_equal_calls_share_one_task_and_its_memory(anyio_backend: object, tmp_path: Path) -> None:
    mark = tmp_path / "go"
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        calls = Calls()
        async with calls:
            for _ in range(20):
                source = bytearray(b"abc" * 5000)  # equal content, other memory
                calls.start(pool.run(source, [HoldOn(str(mark)), Echo()], coalesce=True))
            await until(pool, lambda numbers: numbers.coalesced == 19)
            mark.touch()
        assert calls.data() == [b"abc" * 5000] * 20
        numbers = pool.statistics()
        assert (numbers.submitted, numbers.completed, numbers.leases["caller"]) == (1, 1, 1)
        results = [outcome for outcome in calls.outcomes if isinstance(outcome, Result)]
        results[0].data.release()
        assert bytes(results[1]) == b"abc" * 5000
        last = results.pop()
        del results
        calls.outcomes.clear()
        assert not is_free(pool)
        assert bytes(last) == b"abc" * 5000
        del last
        assert is_free(pool)


async def test_a_call_after_the_end_has_a_task_of_its_own(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        for _ in range(2):
            assert bytes(await pool.run(b"abc", [Echo()], coalesce=True)) == b"abc"
        assert (pool.statistics().completed, pool.statistics().coalesced) == (2, 0)


async def test_calls_that_differ_are_not_shared(anyio_backend: object, tmp_path: Path) -> None:
    mark = tmp_path / "go"
    hold: list[Operation] = [HoldOn(str(mark)), Echo()]
    different: list[tuple[bytes, list[Operation], dict[str, Any]]] = [
        (b"abc", hold, {}),
        (b"abd", hold, {}),
        (b"abc", [HoldOn(str(mark)), Noop()], {}),
        (b"abc", hold, {"tenant": "a"}),
        (b"abc", hold, {"tenant": "b"}),
        (b"abc", hold, {"priority": 1}),
        (b"abc", hold, {"memory_limit": "100MiB"}),
        (b"abc", hold, {"retries": 1}),
        (b"abc", hold, {"timeout": 60}),  # longer than that of the others
    ]
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        calls = Calls()
        async with calls:
            for number, (source, pipeline, options) in enumerate(different, 1):
                calls.start(pool.run(source, pipeline, coalesce=True, **options))
                await until(pool, lambda numbers, number=number: numbers.submitted == number)
            calls.start(pool.run(b"abc", hold))
            await until(pool, lambda numbers: numbers.submitted == 10)
            mark.touch()
        assert pool.statistics().coalesced == 0
        assert len(calls.data()) == 10


# Leaving


@pytest.mark.every_loop
@pytest.mark.parametrize("first", [0, 1, 2])
async def test_calls_leave_one_by_one_and_the_last_ends_the_task(anyio_backend: object, first: int) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        calls = Calls()
        async with calls:
            scopes = [calls.start(pool.run(b"abc", [Hang()], coalesce=True)) for _ in range(3)]
            await until(pool, lambda numbers: numbers.running == 1 and numbers.coalesced == 2)
            for index in (first, (first + 1) % 3):
                scopes[index].cancel()
                await anyio.wait_all_tasks_blocked()
                assert pool.statistics().running == 1
            scopes[(first + 2) % 3].cancel()
        numbers = pool.statistics()
        assert (numbers.cancelled, numbers.running, numbers.submitted) == (1, 0, 1)
        assert is_free(pool)
        assert bytes(await pool.run(b"abc", [Echo()], coalesce=True)) == b"abc"


@pytest.mark.every_loop
async def test_the_first_call_may_leave_before_its_task_has_begun(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        for steps in range(12):  # each iteration of the loop in which the call can be interrupted
            calls = Calls()
            async with calls:
                scope = calls.start(pool.run(b"abc", [Echo()], coalesce=True))
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
                calls.start(pool.run(b"abc", [Echo()], coalesce=True))
            assert calls.data()[1] == b"abc"
            calls.outcomes.clear()
        assert is_free(pool)


async def test_the_time_limits_of_a_call_end_its_own_wait_only(anyio_backend: object, tmp_path: Path) -> None:
    mark = tmp_path / "go"
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        calls = Calls()
        async with calls:
            calls.start(pool.run(b"first", [HoldOn(str(mark))]))
            await until(pool, lambda numbers: numbers.running == 1)
            pipeline: list[Operation] = [HoldOn(str(mark) + "2"), Echo()]
            calls.start(pool.run(b"abc", pipeline, coalesce=True))
            await until(pool, lambda numbers: numbers.waiting == 1)
            calls.start(pool.run(b"abc", pipeline, coalesce=True, queue_timeout=0.1))
            calls.start(pool.run(b"abc", pipeline, coalesce=True, timeout=0.1))
            await calls.until(2, QueueTimeout)
            assert calls.outcomes[3] is None, "its running time has not begun"
            mark.touch()
            assert "goes on for other calls" in await calls.until(3, TaskTimeout)
            (tmp_path / "go2").touch()
        assert calls.data()[1] == b"abc"
        assert (pool.statistics().submitted, pool.statistics().timed_out) == (2, 0)


async def test_the_time_limit_of_the_task_is_that_of_every_call(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        calls = Calls()
        async with calls:
            for _ in range(3):
                calls.start(pool.run(b"abc", [Hang()], coalesce=True, timeout=0.2))
        assert [type(outcome) for outcome in calls.outcomes] == [TaskTimeout] * 3
        assert (pool.statistics().timed_out, pool.statistics().submitted) == (1, 1)


# Errors


@pytest.mark.parametrize(("ending", "error"), [(Raise("task_failed"), TaskFailed), (Exit(3), WorkerDied)])
async def test_an_error_is_shared_and_happens_once(
    anyio_backend: object, tmp_path: Path, ending: Operation, error: type[Exception]
) -> None:
    mark = tmp_path / "go"
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        calls = Calls()
        async with calls:
            for _ in range(5):
                calls.start(pool.run(b"abc", [HoldOn(str(mark)), ending], coalesce=True))
            await until(pool, lambda numbers: numbers.coalesced == 4)
            mark.touch()
        assert [type(outcome) for outcome in calls.outcomes] == [error] * 5
        assert len({id(outcome) for outcome in calls.outcomes}) == 5, "each call has its own traceback"
        assert len({str(outcome) for outcome in calls.outcomes}) == 1
        numbers = pool.statistics()
        assert (numbers.submitted, numbers.worker_crashes) == (1, int(error is WorkerDied))


@pytest.mark.every_loop
async def test_a_pool_that_closes_ends_all_calls(anyio_backend: object) -> None:
    calls = Calls()
    async with calls:
        async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
            for _ in range(3):
                calls.start(pool.run(b"abc", [Hang()], coalesce=True))
            await until(pool, lambda numbers: numbers.running == 1 and numbers.coalesced == 2)
    assert [type(outcome) for outcome in calls.outcomes] == [PoolClosed] * 3


# Sources


async def shared(pool: Pool, sources: list[Any], mark: Path) -> int:
    """Run all sources at the same time; returns how many calls joined the task of another."""
    before = pool.statistics()
    calls = Calls()
    async with calls:
        for source in sources:
            calls.start(pool.run(source, [HoldOn(str(mark)), Echo()], coalesce=True))

        def all_wait(numbers: Statistics) -> bool:
            started = numbers.submitted - before.submitted + numbers.coalesced - before.coalesced
            return started == len(sources)

        await until(pool, all_wait)
        mark.touch()
    mark.unlink()
    for outcome in calls.outcomes:
        assert isinstance(outcome, Result), outcome
    return pool.statistics().coalesced - before.coalesced


async def test_equal_content_is_recognised_in_every_kind_of_source(anyio_backend: object, tmp_path: Path) -> None:
    mark, data = tmp_path / "go", os.urandom(200_000)
    path = tmp_path / "source"
    path.write_bytes(data)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    array = np.frombuffer(data, "<u2").reshape(250, 400)
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="512MiB") as pool:
        buffer = pool.buffer(len(data))
        buffer.view[:] = data
        result = await pool.run(data, [Echo()])
        assert await shared(pool, [data, bytearray(data), memoryview(data), mapped, buffer], mark) == 4
        with pytest.raises(InvalidTask):
            _ = buffer.view
        assert await shared(pool, [array, array.copy(), array.reshape(400, 250), array.view("<i2")], mark) == 1
        assert await shared(pool, [array[:, ::2], array[:, ::2]], mark) == 0, "memory with gaps is not compared"
        assert await shared(pool, [result, result], mark) == 1
        del result
        assert is_free(pool)
    mapped.close()


async def test_a_file_is_recognised_until_it_changes(anyio_backend: object, tmp_path: Path) -> None:
    mark, path, other = tmp_path / "go", tmp_path / "source", tmp_path / "other"
    path.write_bytes(b"version 1")
    other.write_bytes(b"version 1")
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        assert await shared(pool, [path, path], mark) == 0, "it may change again within the same time stamp"
        while time.time() - path.stat().st_ctime < 2.1:
            await anyio.sleep(0.1)
        assert await shared(pool, [path, path, other], mark) == 1
        calls = Calls()
        async with calls:
            pipeline: list[Operation] = [Echo(), HoldOn(str(mark))]
            calls.start(pool.run(path, pipeline, coalesce=True))
            await until(pool, lambda numbers: numbers.running == 1)
            path.write_bytes(b"version 2")
            calls.start(pool.run(path, pipeline, coalesce=True))
            await until(pool, lambda numbers: numbers.running == 2)
            mark.touch()
        assert calls.data() == [b"version 1", b"version 2"]
        with pytest.raises(InvalidTask):
            await pool.run(tmp_path / "missing", [Echo()], coalesce=True)


# Together with other options


async def test_each_call_has_the_progress_and_the_previews_of_the_task(anyio_backend: object, tmp_path: Path) -> None:
    mark = tmp_path / "go"
    progress: list[list[Progress]] = [[], []]
    previews: list[list[bytes]] = [[], []]
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pipeline: list[Operation] = [Preview(9), Report(0.5), HoldOn(str(mark)), Echo()]
        calls = Calls()
        async with calls:
            for seen, early in zip(progress, previews, strict=True):
                call = pool.run(
                    b"abc",
                    pipeline,
                    coalesce=True,
                    on_progress=seen.append,
                    on_preview=lambda preview, early=early: early.append(bytes(preview)),
                )
                calls.start(call)
                await until(pool, lambda numbers: numbers.running == 1)
            await until(pool, lambda numbers: numbers.coalesced == 1)
            await until(pool, lambda _: all(any(each.fraction == 0.5 for each in seen) for seen in progress))
            mark.touch()
        assert calls.data() == [b"abc"] * 2
        assert previews == [[b"\x02" * 9]] * 2
        for seen in progress:
            assert 0.5 in {each.fraction for each in seen}
            assert seen[-1].fraction == 1.0


async def test_equal_sources_of_a_batch_share_a_task(anyio_backend: object, tmp_path: Path) -> None:
    mark = tmp_path / "go"
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        sources = [b"a", b"b", b"a", b"a"]
        async with pool.map(sources, [HoldOn(str(mark)), Echo()], coalesce=True, ordered=True) as outcomes:
            await until(pool, lambda numbers: numbers.coalesced == 2)
            mark.touch()
            assert [bytes(outcome.unwrap()) async for outcome in outcomes] == sources
        assert pool.statistics().completed == 2


async def test_a_file_for_the_result_cannot_be_shared(anyio_backend: object, tmp_path: Path) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with pytest.raises(ValueError, match="coalesce=True and to="):
            await pool.run(b"abc", [Echo()], coalesce=True, to=tmp_path / "a")
        with pytest.raises(ValueError, match="coalesce=True and to="):
            pool.map([b"abc"], [Echo()], coalesce=True, to=lambda _: tmp_path / "a")


@pytest.mark.every_loop
async def test_a_storm_of_calls_that_leave_frees_all(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        calls = Calls()
        async with calls:
            scopes = [
                calls.start(pool.run(bytes([number % 7]) * 5000, [Wait(0.01), Echo()], coalesce=True)) for number in range(300)
            ]
            await until(pool, lambda numbers: numbers.completed > 0)
            for scope in scopes[::2]:
                scope.cancel()
        for number in range(1, 300, 2):
            assert calls.data()[number] == bytes([number % 7]) * 5000
        calls.outcomes.clear()
        assert is_free(pool)
