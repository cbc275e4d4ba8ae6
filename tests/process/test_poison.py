"""Content that kills workers: retried only on request, recognized by its digest, and quarantined."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from offloop import BreakerMoved, Pool, TaskQuarantined, TaskRetried, WorkerCrashed, WorkerDied, WorkerMoved
from offloop.testing.faults import Echo, Exit, FaultsPlugin, Inspect, Kill, KillOnce, Noop

pytestmark = pytest.mark.anyio


async def assert_kills(pool: Pool, data: object, operation: Exit | Kill | None = None) -> None:
    with pytest.raises(WorkerDied):
        await pool.run(data, [operation or Exit(3)])  # pyright: ignore[reportArgumentType]


@pytest.mark.every_loop
async def test_callers_that_leave_when_their_worker_has_died_do_not_hide_content_that_kills(anyio_backend: object) -> None:
    async def submit() -> None:
        with suppress(WorkerDied):  # if the source was read before the caller left
            await pool.run(poison, [Exit(3)])

    async with Pool(1, plugins=[FaultsPlugin], restart_intensity=100) as pool:
        poison = bytes(32_000_000)  # reading it takes some milliseconds
        for _ in range(3):
            reader = pool.events()
            async with anyio.create_task_group() as caller:
                caller.start_soon(submit)
                async for event in reader:
                    if isinstance(event, WorkerCrashed):
                        caller.cancel_scope.cancel()
                        break
            reader.close()
        with pytest.raises(TaskQuarantined):
            await pool.run(poison, [Exit(3)])


# Retries


async def test_a_task_that_killed_its_worker_is_not_run_again_by_default(pool: Pool) -> None:
    await assert_kills(pool, b"")
    numbers = pool.statistics()
    assert (numbers.retried, numbers.worker_died) == (0, 1)


@pytest.mark.parametrize("spares", [0, 1])
async def test_a_retried_task_gets_a_worker_that_has_had_no_task(anyio_backend: object, tmp_path: Path, spares: int) -> None:
    async with Pool(1, plugins=[FaultsPlugin], retries=1, spares=spares) as pool:
        for _ in range(3):
            await pool.run(b"", [Noop()])
        reader = pool.events()
        result = await pool.run(b"once", [KillOnce(str(tmp_path / "done")), Echo()])
        assert bytes(result) == b"once"
        reader.close()
        retried = [event async for event in reader if isinstance(event, TaskRetried)]
        assert [event.deaths for event in retried] == [1]
        numbers = pool.statistics()
        assert (numbers.completed, numbers.worker_died, numbers.retried) == (4, 0, 1)


async def test_retries_are_used_up(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin], quarantine_after=None) as pool:
        with pytest.raises(WorkerDied):
            await pool.run(b"abc", [Exit(3)], retries=2)
        numbers = pool.statistics()
        assert (numbers.retried, numbers.worker_crashes, numbers.worker_died) == (2, 3, 1)


async def test_a_file_is_written_whole_by_the_second_worker(anyio_backend: object, tmp_path: Path) -> None:
    async with Pool(1, plugins=[FaultsPlugin], retries=1) as pool:
        await pool.run(b"abc" * 1000, [KillOnce(str(tmp_path / "done")), Echo()], to=tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"abc" * 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done", "out"]


async def test_retries_that_make_no_sense_are_refused(pool: Pool) -> None:
    nonsense: list[Any] = [-1, 101, True, 1.5]
    for retries in nonsense:
        with pytest.raises((ValueError, TypeError), match="retries="):
            await pool.run(b"", [Noop()], retries=retries)
        with pytest.raises((ValueError, TypeError), match="retries="):
            Pool(retries=retries)


# Quarantine


async def test_content_that_killed_three_workers_is_refused_and_other_content_is_not(
    anyio_backend: object, tmp_path: Path
) -> None:
    path = tmp_path / "poison"
    path.write_bytes(b"poison" * 100_000)
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        for source in (path, path.read_bytes(), path):
            await assert_kills(pool, source)
        starts = pool.statistics().worker_starts
        for source in (path, path.read_bytes(), bytearray(path.read_bytes())):
            with pytest.raises(TaskQuarantined, match="has killed 3 workers") as caught:
                await pool.run(source, [Exit(3)])
            assert (caught.value.deaths, 0 < caught.value.seconds_left <= 300) == (3, True)
        assert pool.statistics().worker_starts == starts, "no worker was harmed"
        assert bytes(await pool.run(path, [Echo()])) == path.read_bytes(), "another pipeline"
        await assert_kills(pool, b"noisop" * 100_000)  # another source of the same length
        assert pool.statistics().quarantined == 2


async def test_samples_are_told_apart_by_their_shape(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], quarantine_after=1) as pool:
        samples = np.zeros((20, 30, 3), np.uint8)
        await assert_kills(pool, samples)
        with pytest.raises(TaskQuarantined):
            await pool.run(samples, [Exit(3)])
        await assert_kills(pool, samples.reshape(30, 20, 3))


async def test_a_source_of_no_bytes_can_be_poison_too(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], quarantine_after=1) as pool:
        await assert_kills(pool, b"")
        with pytest.raises(TaskQuarantined):
            await pool.run(b"", [Exit(3)])


async def test_the_quarantine_ends(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], quarantine_after=1, quarantine_time=0.0) as pool:
        for _ in range(3):
            await assert_kills(pool, b"abc")


async def test_content_that_was_a_victim_is_absolved_when_it_does_no_harm(anyio_backend: object, tmp_path: Path) -> None:
    async with Pool(1, plugins=[FaultsPlugin], quarantine_after=2) as pool:
        for number in range(3):
            mark = str(tmp_path / str(number // 2))
            if number == 1:
                await pool.run(b"abc", [KillOnce(str(tmp_path / "0"))])
                continue
            with pytest.raises(WorkerDied):
                await pool.run(b"abc", [KillOnce(mark if number == 0 else str(tmp_path / "1"))])
        assert pool.statistics().worker_crashes == 2


@pytest.mark.every_loop
async def test_a_caller_that_leaves_while_its_source_is_identified_leaves_nothing(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], quarantine_after=1, memory_limit="64MiB") as pool:
        data = b"x" * (16 << 20)
        await assert_kills(pool, data)
        with anyio.move_on_after(0.001):
            await pool.run(data, [Exit(3)])
        with pytest.raises(TaskQuarantined):
            await pool.run(data, [Exit(3)])


# A storm of deaths


async def test_a_storm_of_deaths_opens_the_breaker_and_the_pool_recovers(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with Pool(2, plugins=[FaultsPlugin], restart_intensity=3, quarantine_after=None) as pool:
        reader = pool.events()
        for _ in range(4):
            await assert_kills(pool, b"")
        assert pool.statistics().breaker == "open"
        moves: list[tuple[str, str]] = []
        with anyio.fail_after(20):
            assert bytes(await pool.run(b"after the storm", [Echo()])) == b"after the storm"
            async for event in reader:
                if isinstance(event, BreakerMoved):
                    moves.append((event.before, event.after))
                elif isinstance(event, WorkerMoved) and event.event == "Ready":
                    await pool.run(b"", [Noop()])  # the one on probation has the next task
                if len(moves) == 3 and pool.statistics().workers == {"idle": 2}:
                    break
        reader.close()
        assert moves[:3] == [("closed", "open"), ("open", "half-open"), ("half-open", "closed")]
        assert [line for line in caplog.messages if "breaker" in line][:3] == [
            "the breaker was closed and is open: dead workers are not replaced for a while",
            "the breaker was open and is half-open: one worker is started on probation",
            "the breaker was half-open and is closed: dead workers are replaced again",
        ]


async def test_the_workers_that_live_go_on_while_the_breaker_is_open(anyio_backend: object) -> None:
    async with Pool(3, plugins=[FaultsPlugin], restart_intensity=0) as pool:
        os.kill((await pool.run(b"", [Inspect()])).info.pid, signal.SIGKILL)
        reader = pool.events()
        while pool.statistics().breaker == "closed":
            await anext(reader)
        for number in range(20):
            assert bytes(await pool.run(b"%d" % number, [Echo()])) == b"%d" % number
        assert pool.statistics().worker_starts == 3
