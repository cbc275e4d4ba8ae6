"""What a pool tells those who watch, and what it says of a worker that died."""

from __future__ import annotations

import logging
import signal
from contextlib import aclosing

import anyio
import pytest

from offloop import CrashReport, Pool, WorkerCrashed, WorkerDied, WorkerMoved
from offloop.testing.faults import Exit, FaultsPlugin, Kill, Noop, Progress, Wait

pytestmark = pytest.mark.anyio


async def test_a_watcher_sees_each_step_with_its_cause(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=5.0) as pool:
        reader = pool.events()
        await pool.run(b"", [Noop()])
        with pytest.raises(TimeoutError):
            await pool.run(b"", [Wait(60)], timeout=0.05)
        reader.close()
        moves = [event async for event in reader if isinstance(event, WorkerMoved)]
    assert [(move.before, move.event, move.after) for move in moves] == [
        ("idle", "Dispatched", "busy"),
        ("busy", "Settled", "idle"),
        ("idle", "Dispatched", "busy"),
        ("busy", "DeadlineExpired", "timed-out"),
        ("timed-out", "Settled", "idle"),
    ]
    assert moves[3].cause == "its task is to stop: deadline"
    assert len({move.pid for move in moves}) == 1
    assert [move.task_id is not None for move in moves] == [True] * 5
    assert [move.at for move in moves] == sorted(move.at for move in moves)


async def test_a_watcher_sees_the_pool_to_its_end(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        reader = pool.events()
    moves = [event async for event in reader if isinstance(event, WorkerMoved)]
    assert [move.after for move in moves].count("gone") == 2


async def test_several_watch_and_one_leaves(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        stays = pool.events()
        async with aclosing(pool.events()):
            await pool.run(b"", [Noop()])
        await pool.run(b"", [Noop()])
        stays.close()
        assert len([event async for event in stays]) == 4


async def test_a_watcher_that_does_not_read_misses_and_is_told_how_much(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        reader = pool.events()
        for _ in range(5_100):
            await pool.run(b"", [Noop()])
        reader.close()
        assert reader.missed == 200
        assert len([event async for event in reader]) == 10_000


async def test_a_crash_is_reported_with_all_that_is_known(anyio_backend: object, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "offloop.supervisor")
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        reader = pool.events()
        with pytest.raises(WorkerDied) as caught:
            await pool.run(b"", [Progress(0.4), Kill(signal.SIGSEGV)])
        report = caught.value.report
        crash = await first_crash(reader)
        assert isinstance(report, CrashReport)
        assert crash.report == report
        assert (report.signal, report.reason, report.tasks) == (signal.SIGSEGV, None, 1)
        assert (report.running, report.progress) == ("faults (Progress, Kill) at 40%", 0.4)
        assert report.memory_bytes is not None
        assert report.memory_bytes > 1024 * 1024
        assert report.traceback.startswith("Fatal Python error: Segmentation fault")
        assert "_kill" in report.traceback
        assert report.story[-1] == "Exited"
        assert report.pid is not None
        assert report.age_s is not None
    assert any(f"(process {report.pid}) was ended by SIGSEGV during faults" in line for line in caplog.messages)


async def first_crash(reader: object) -> WorkerCrashed:
    with anyio.fail_after(10):
        async for event in reader:  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
            if isinstance(event, WorkerCrashed):
                return event
    raise AssertionError("the pool ended without one")


async def test_a_worker_that_ends_by_itself_is_reported_with_its_exit_code(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        reader = pool.events()
        with pytest.raises(WorkerDied):
            await pool.run(b"", [Exit(42)])
        report = (await first_crash(reader)).report
        assert (report.exit_code, report.signal, report.traceback) == (42, None, "")
        assert report.cause == "exited with code 42 during faults (Exit)"
