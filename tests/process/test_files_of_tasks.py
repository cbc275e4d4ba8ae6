"""Source files stay open while their task waits, and are read once, into the inbox of the worker that runs the task."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from joining_plugin import Join, JoiningPlugin, WeighingJoiningPlugin
from open_descriptors import descriptors

from offloop import Attachment, InvalidTask, Operation, Pool, PoolClosed, QueueTimeout, TaskQuarantined, TaskTimeout, WorkerDied
from offloop.testing.faults import Echo, Exit, FaultsPlugin, Hang, HoldOn, Kill, KillOnce, Noop, Wait

pytestmark = pytest.mark.anyio

KIB, MIB = 1 << 10, 1 << 20
CONTENTS = os.urandom(MIB) * 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENTS)
    os.utime(path, (1, 1))
    return path


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.002)


@asynccontextmanager
async def busy_pool(tmp_path: Path, **more: object) -> AsyncGenerator[Pool]:
    """A pool whose only worker has a task, until the file `end` exists."""
    async with Pool(1, plugins=[FaultsPlugin], **more) as pool, anyio.create_task_group() as task_group:  # pyright: ignore[reportArgumentType]
        task_group.start_soon(pool.run, b"", [HoldOn(str(tmp_path / "end"))])
        await until(lambda: pool.statistics().running)
        yield pool
        (tmp_path / "end").touch()


async def wait_for_waiting(pool: Pool, count: int) -> None:
    assert pool._supervisor is not None
    queue = pool._supervisor.core.queue
    await until(lambda: len(queue) == count)


@pytest.mark.parametrize("operation", [Echo(), HoldOn("/proc/self")])
async def test_files_of_any_length_reach_their_worker(anyio_backend: object, tmp_path: Path, operation: Operation) -> None:
    path = tmp_path / "source"
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="256MiB") as pool:
        for nbytes in (0, 1, 64 * KIB, 64 * KIB + 1, 256 * KIB, 256 * KIB + 1, 512 * KIB + 1, 30 * MIB, 30 * MIB, 3):
            source = os.urandom(min(nbytes, MIB)) * (nbytes // min(nbytes, MIB) if nbytes else 1)
            path.write_bytes(source)
            assert bytes(await pool.run(path, [operation])) == source
            assert descriptors(path) == 0


async def test_waiting_files_take_descriptors_and_no_shared_memory(anyio_backend: object, tmp_path: Path, path: Path) -> None:
    async with busy_pool(tmp_path) as pool, anyio.create_task_group() as task_group:
        assert pool._supervisor is not None
        arena = pool._supervisor.core.arena
        before = arena.used_bytes
        for _ in range(10):
            task_group.start_soon(pool.run, path, [Noop()])
        await wait_for_waiting(pool, 10)
        assert arena.used_bytes == before
        assert descriptors(path) == 10
        (tmp_path / "end").touch()
    assert descriptors(path) == 0
    assert pool.statistics().completed == 11


async def test_beyond_the_limit_a_file_waits_in_shared_memory(anyio_backend: object, tmp_path: Path, path: Path) -> None:
    async with busy_pool(tmp_path) as pool, anyio.create_task_group() as task_group:
        assert pool._supervisor is not None
        arena = pool._supervisor.core.arena
        before = arena.used_bytes
        pool._supervisor.file_allowances.files.left = 3
        for _ in range(5):
            task_group.start_soon(pool.run, path, [Noop()])
        await wait_for_waiting(pool, 5)
        assert arena.used_bytes - before == 2 * len(CONTENTS)
        assert descriptors(path) == 3
        (tmp_path / "end").touch()
    assert descriptors(path) == 0
    assert pool.statistics().completed == 6


@pytest.mark.parametrize("data", [CONTENTS[1:], CONTENTS + b"x", CONTENTS[::-1]], ids=["shorter", "longer", "rewritten"])
async def test_a_file_that_changes_while_its_task_waits_is_refused(
    anyio_backend: object, tmp_path: Path, path: Path, data: bytes
) -> None:
    errors: list[str] = []

    async def run() -> None:
        with pytest.raises(InvalidTask) as caught:
            await pool.run(path, [Echo()])
        errors.append(str(caught.value))

    async with busy_pool(tmp_path) as pool:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(run)
            await wait_for_waiting(pool, 1)
            path.write_bytes(data)
            (tmp_path / "end").touch()
        assert errors == [f"the source {str(path)!r} was changed before its task had ended"]
        assert descriptors(path) == 0
        assert bytes(await pool.run(path, [Echo()])) == data


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_waiting_file_may_be_removed_or_replaced(
    anyio_backend: object, tmp_path: Path, path: Path, replaced: bool
) -> None:
    results: list[bytes] = []

    async def run() -> None:
        results.append(bytes(await pool.run(path, [Echo()])))

    async with busy_pool(tmp_path) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(run)
        await wait_for_waiting(pool, 1)
        if replaced:
            (tmp_path / "other").write_bytes(b"other")
            (tmp_path / "other").rename(path)
        else:
            path.unlink()
        (tmp_path / "end").touch()
    assert results == [CONTENTS]


async def test_a_file_is_read_again_for_another_run_after_a_crash(anyio_backend: object, tmp_path: Path, path: Path) -> None:
    async with Pool(2, plugins=[FaultsPlugin], retries=1) as pool:
        result = await pool.run(path, [KillOnce(str(tmp_path / "mark")), Echo()])
        assert bytes(result) == CONTENTS
        assert pool.statistics().retried == 1
    assert descriptors(path) == 0


async def test_a_file_that_changes_before_another_run_is_refused(anyio_backend: object, tmp_path: Path, path: Path) -> None:
    mark = tmp_path / "mark"

    async def change() -> None:
        await until(mark.exists)
        path.write_bytes(CONTENTS[::-1])
        (tmp_path / "go").touch()

    async with Pool(1, plugins=[FaultsPlugin], retries=1) as pool, anyio.create_task_group() as task_group:
        assert pool._supervisor is not None
        task_group.start_soon(change)
        with pytest.raises(InvalidTask, match="was changed"):
            await pool.run(path, [KillOnce(str(mark)), Echo()])
    assert descriptors(path) == 0


@pytest.mark.parametrize(
    ("operation", "error"), [(Exit(3), WorkerDied), (Kill(9), WorkerDied), (Hang(), TaskTimeout), (Wait(60), TaskTimeout)]
)
async def test_no_descriptor_stays_after_a_failure(
    anyio_backend: object, path: Path, operation: Operation, error: type[Exception]
) -> None:
    async with Pool(1, plugins=[FaultsPlugin], timeout=0.3, grace=0.1) as pool:
        with pytest.raises(error):
            await pool.run(path, [operation])
        await until(lambda: not descriptors(path))  # it may be hashed, because it may have killed the worker


async def test_no_descriptor_stays_after_a_cancellation(anyio_backend: object, tmp_path: Path, path: Path) -> None:
    async with busy_pool(tmp_path) as pool:
        async with anyio.create_task_group() as task_group:
            for _ in range(5):
                task_group.start_soon(pool.run, path, [Noop()])
            await wait_for_waiting(pool, 5)
            task_group.cancel_scope.cancel()
        assert descriptors(path) == 0
        with pytest.raises(QueueTimeout):
            await pool.run(path, [Noop()], queue_timeout=0.05)
        assert descriptors(path) == 0


async def test_a_cancellation_in_any_step_leaves_no_descriptor(anyio_backend: object, path: Path) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        for steps in range(60):
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(pool.run, path, [Noop()])
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                task_group.cancel_scope.cancel()
            await until(lambda: not descriptors(path))  # a thread may read it
        assert bytes(await pool.run(path, [Echo()])) == CONTENTS
        await until(lambda: not any(pool.statistics().leases[holder] for holder in ("task", "stager", "delivery")))


async def test_closing_the_pool_closes_the_files_of_waiting_tasks(anyio_backend: object, tmp_path: Path, path: Path) -> None:
    errors: list[Exception] = []

    async def run(pool: Pool) -> None:
        try:
            await pool.run(path, [Noop()])
        except PoolClosed as error:
            errors.append(error)

    async with anyio.create_task_group() as task_group:
        pool = Pool(1, plugins=[FaultsPlugin], grace=0.1)
        async with pool:
            task_group.start_soon(pool_run_until_closed, pool)
            await until(lambda: pool.statistics().running)
            for _ in range(5):
                task_group.start_soon(run, pool)
            await wait_for_waiting(pool, 5)
            assert descriptors(path) == 5
    assert len(errors) == 5
    assert descriptors(path) == 0


async def pool_run_until_closed(pool: Pool) -> None:
    with pytest.raises(PoolClosed):
        await pool.run(b"", [Wait(60)])


async def test_a_file_that_cannot_be_read_at_once_does_not_keep_its_worker(anyio_backend: object, path: Path) -> None:
    # isolation: no worker for small tasks runs the other one
    async with Pool(1, plugins=[FaultsPlugin], isolation="tenant") as pool, anyio.create_task_group() as task_group:
        assert pool._supervisor is not None
        threads, core = pool._supervisor.background.large_file_threads, pool._supervisor.core
        holders = [object() for _ in range(int(threads.total_tokens))]
        for holder in holders:
            threads.acquire_on_behalf_of_nowait(holder)  # as many files are being read as may be at once, for ever
        results: list[bytes] = []

        async def run() -> None:
            results.append(bytes(await pool.run(path, [Echo()], timeout=0.5)))

        task_group.start_soon(run)
        await until(lambda: pool.statistics().running)
        with anyio.fail_after(20):
            assert bytes(await pool.run(b"other", [Echo()])) == b"other"
        assert core.task_table.counts.preparing == 1
        assert results == []
        for holder in holders:
            threads.release_on_behalf_of(holder)
        await until(lambda: results)
        assert results == [CONTENTS]
    assert descriptors(path) == 0


async def test_a_file_and_bytes_of_the_same_content_are_one_suspect(anyio_backend: object, path: Path) -> None:
    async with Pool(1, plugins=[FaultsPlugin], restart_intensity=100) as pool:
        for source in (path, CONTENTS, path):
            with pytest.raises(WorkerDied):
                await pool.run(source, [Exit(3)])
        for source in (path, CONTENTS):
            with pytest.raises(TaskQuarantined):
                await pool.run(source, [Exit(3)])
    assert descriptors(path) == 0


@pytest.mark.parametrize("plugin", [JoiningPlugin, WeighingJoiningPlugin])
@pytest.mark.parametrize("kind", [bytes, bytearray])
async def test_files_are_sources_beside_bytes_and_are_copied_with_sources_that_may_change(
    anyio_backend: object, path: Path, plugin: type[JoiningPlugin], kind: Callable[[bytes], bytes]
) -> None:
    async with Pool(1, plugins=[plugin]) as pool:
        join = Join((Attachment(path), Attachment(kind(b"<bytes>")), Attachment(path)))
        assert bytes(await pool.run(path, [join])) == CONTENTS + CONTENTS + b"<bytes>" + CONTENTS
    assert descriptors(path) == 0


def test_files_reach_workers_under_a_loop_that_anyio_has_not_started(path: Path) -> None:
    """anyio knows a loop that it has started also in callbacks, and another one only in tasks."""

    async def serve() -> None:
        async with Pool(1, plugins=[FaultsPlugin]) as pool, asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(pool.run(path, [Echo()])) for _ in range(5)]
        assert all(run.result().nbytes == len(CONTENTS) for run in runs)

    Context().run(asyncio.run, serve())
