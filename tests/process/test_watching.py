"""Event subscriptions, and the report of a crashed worker."""

from __future__ import annotations

import gc
import logging
import signal
import weakref
from collections.abc import Iterator
from contextlib import aclosing

import anyio
import pytest

from offloop import Buffer, CrashReport, Pool, WorkerCrashed, WorkerDied, WorkerMoved
from offloop.testing.faults import Exit, FaultsPlugin, Kill, Noop, PrintText, Progress, Wait, WriteStderr

pytestmark = pytest.mark.anyio


async def test_a_subscription_gets_each_state_change_with_its_cause(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=5.0) as pool:
        reader = pool.events()
        await pool.run(b"", [Noop()])
        with pytest.raises(TimeoutError):
            await pool.run(b"", [Wait(60)], timeout=0.05)
        reader.close()
        moves = [event async for event in reader if isinstance(event, WorkerMoved)]
    assert [(move.before, move.event, move.after) for move in moves] == [
        ("idle", "Dispatched", "busy"),
        ("busy", "TaskFinished", "idle"),
        ("idle", "Dispatched", "busy"),
        ("busy", "DeadlineExpired", "timed-out"),
        ("timed-out", "TaskFinished", "idle"),
    ]
    assert moves[3].cause == "its task is to stop: deadline"
    assert len({move.pid for move in moves}) == 1
    assert [move.task_id is not None for move in moves] == [True] * 5
    assert [move.at for move in moves] == sorted(move.at for move in moves)


async def test_a_subscription_gets_all_events_until_the_pool_is_closed(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        reader = pool.events()
    moves = [event async for event in reader if isinstance(event, WorkerMoved)]
    assert [move.after for move in moves].count("gone") == 2


async def test_one_of_several_subscriptions_is_closed(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        stays = pool.events()
        async with aclosing(pool.events()):
            await pool.run(b"", [Noop()])
        await pool.run(b"", [Noop()])
        stays.close()
        assert len([event async for event in stays]) == 6  # for each task: dispatched, finished, ended


async def test_a_slow_subscription_drops_events_and_counts_them(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        reader = pool.events()
        for _ in range(3_400):
            await pool.run(b"", [Noop()])
        reader.close()
        assert reader.dropped == 200
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
        assert report.recent_transitions[-1] == "Disconnected"
        assert report.pid is not None
        assert report.age_s is not None
    assert any(f"(process {report.pid}) was ended by SIGSEGV during faults" in line for line in caplog.messages)


async def test_a_death_carries_nothing_that_earlier_tasks_have_printed(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        for text in (PrintText("secret of the first"), PrintText("secret of the second", buffered=True)):
            await pool.run(b"", [text])
        with pytest.raises(WorkerDied) as caught:
            await pool.run(b"", [WriteStderr(3), Exit(3)])
        assert caught.value.report is not None
        assert (caught.value.stderr_tail, caught.value.report.stderr_tail) == ("eee", "eee")
        assert str(caught.value) == "the worker exited with code 3 during faults (WriteStderr, Exit)"
        assert "secret" not in "".join(caught.value.__notes__)


async def test_output_is_its_own_tasks_also_when_there_is_more_than_the_loop_has_read(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], timeout=None) as pool:
        await pool.run(b"", [PrintText("secret " * 100_000)])  # more than is read without a pause
        with pytest.raises(WorkerDied) as caught:
            await pool.run(b"", [WriteStderr(100), Exit(3)])
        assert caught.value.stderr_tail == "e" * 100


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


@pytest.mark.every_loop
async def test_two_tasks_may_read_one_subscription(anyio_backend: object) -> None:
    """Each event goes to one of them, and both hear of the end."""
    seen: list[object] = []

    async def read() -> None:
        seen.extend([event async for event in reader])

    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            async with Pool(1, plugins=[FaultsPlugin]) as pool:
                reader = pool.events()
                task_group.start_soon(read)
                task_group.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                await pool.run(b"", [Noop()])
    assert [event.after for event in seen if isinstance(event, WorkerMoved)].count("busy") == 1


@pytest.mark.every_loop
async def test_a_subscription_ends_when_the_pool_was_drained(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        reader = pool.events()
        await pool.drain()
        with anyio.fail_after(20):
            moves = [event async for event in reader if isinstance(event, WorkerMoved)]
    assert moves[-1].after == "gone"


@pytest.mark.every_loop
async def test_an_unclosed_subscription_is_garbage_collected(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        reader = pool.events()
        await pool.run(b"", [Noop()])
        async for _ in reader:
            break
        left = weakref.ref(reader)
        del reader
        gc.collect()
        assert left() is None
        await pool.run(b"", [Noop()])
        assert not pool._supervisor.core.event_log.has_subscribers  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.every_loop
async def test_a_subscription_that_a_task_awaits_is_not_garbage_collected(anyio_backend: object) -> None:
    seen: list[object] = []

    async def watch() -> None:
        seen.extend([event async for event in pool.events()])

    async with anyio.create_task_group() as task_group:
        async with Pool(1, plugins=[FaultsPlugin]) as pool:
            task_group.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            gc.collect()
            await pool.run(b"", [Noop()])
    assert seen


@pytest.mark.every_loop
async def test_reading_events_with_a_time_out_leaves_no_futures(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, aclosing(pool.events()) as reader:
        for _ in range(20):
            with anyio.move_on_after(0.001):
                await anext(reader)
        assert not reader._arrived.futures


class Broken(logging.Handler):
    """A handler of the user's that raises."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        raise OSError("the disk is full")


@pytest.fixture
def broken_log() -> Iterator[Broken]:
    handler, logger = Broken(), logging.getLogger("offloop")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


async def test_a_log_handler_that_raises_does_not_harm_the_pool(
    anyio_backend: object, broken_log: Broken, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with pytest.raises(WorkerDied):
            await pool.run(b"", [PrintText("hello"), Exit(1)])
        await pool.run(b"", [Noop()])
    assert broken_log.lines >= 2, "the worker's line and its death"
    assert capsys.readouterr().err.count("OSError: the disk is full") == broken_log.lines, "and it is told what it did"


async def test_a_log_handler_may_call_the_pool(anyio_backend: object) -> None:
    """It is called in the midst of a decision, and what comes of that is not left lying."""

    class Asking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            crashes.append(pool.statistics().worker_crashes)
            buffers.append(pool.buffer(1000))

    handler, logger = Asking(), logging.getLogger("offloop.supervisor")
    crashes: list[int] = []
    buffers: list[Buffer] = []
    logger.addHandler(handler)
    try:
        async with Pool(1, plugins=[FaultsPlugin]) as pool:
            with pytest.raises(WorkerDied):
                await pool.run(b"", [Exit(1)])
            assert crashes == [1]
            assert buffers[0].view.nbytes == 1000
            buffers.clear()
    finally:
        logger.removeHandler(handler)
