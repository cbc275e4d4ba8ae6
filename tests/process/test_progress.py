"""`Pool.run(on_progress=...)`: monotonic, checked, at most twenty times a second, and nothing after the outcome."""

from __future__ import annotations

import contextvars
import logging
from pathlib import Path
from time import monotonic

import anyio
import pytest
from second_plugin import Greet, GreetingPlugin

from offloop import Operation, Pool, Progress, TaskFailed, WorkerDied
from offloop.testing.faults import Emit, Exit, FaultsPlugin, HoldOn, Noop, Raise, Wait
from offloop.testing.faults import Progress as Report

pytestmark = pytest.mark.anyio

SLOW: list[Operation] = [Report(0.25), Wait(0.2), Report(0.5), Wait(0.2)]


class Gates:
    """Keeps each progress, and lets a task go on past a fraction only when that was seen, however late the loop is."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[Progress] = []
        self._folder = folder
        self._fractions: list[float] = []

    def hold(self, fraction: float) -> Operation:
        """An operation that waits until the progress of the whole task was this or more."""
        self._fractions.append(fraction)
        return HoldOn(str(self._folder / str(fraction)))

    def see(self, progress: Progress) -> None:
        """Callback of the progress."""
        self.seen.append(progress)
        for fraction in self._fractions:
            if progress.fraction >= fraction:
                (self._folder / str(fraction)).touch()


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path)


def running(seen: list[Progress]) -> list[Progress]:
    """Leaves out the time in which a task waits for a worker that starts."""
    return [progress for progress in seen if progress.waits_for is None]


async def test_progress_is_monotonic_and_ends_with_one(anyio_backend: object, gates: Gates) -> None:
    seen = gates.seen
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pipeline = [Report(0.25), gates.hold(0.25), Report(0.5), gates.hold(0.5), Report(0.1), Wait(0.2)]
        started = monotonic()
        await pool.run(b"", pipeline, on_progress=gates.see)
        took_s = monotonic() - started
        count = len(seen)
        await anyio.sleep(0.2)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert {0.25, 0.5} < set(fractions)
    assert fractions[-1] == 1.0
    assert (fractions.count(1.0), len(seen)) == (1, count), "nothing comes after the end"
    first = running(seen)[0]
    assert first.stage == "faults"
    assert first.operation == "Progress, HoldOn, Progress, HoldOn, Progress, Wait"
    assert seen[-1].eta_s == 0.0
    assert len(seen) <= 20 * took_s + 2


async def test_each_stage_is_a_part_of_the_whole(anyio_backend: object, gates: Gates) -> None:
    seen = gates.seen
    async with Pool(1, plugins=[FaultsPlugin, GreetingPlugin]) as pool:
        await pool.run(b"", [Greet(), Report(0.5), gates.hold(0.75)], on_progress=gates.see)
    assert (0.75, "faults") in [(progress.fraction, progress.stage) for progress in seen]


@pytest.mark.every_loop
async def test_an_async_callback_has_one_call_at_a_time_in_the_context_of_the_caller(anyio_backend: object) -> None:
    request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id")
    calls: list[tuple[str, float]] = []
    running = 0

    async def on_progress(progress: Progress) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await anyio.sleep(0.1)
        running -= 1
        calls.append((request_id.get(), progress.fraction))

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        request_id.set("caller's")
        await pool.run(b"", SLOW, on_progress=on_progress)
        assert calls[-1] == ("caller's", 1.0)
        assert {name for name, _ in calls} == {"caller's"}


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callback_that_raises_is_logged_once_and_the_task_goes_on(
    anyio_backend: object, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    def sync_callback(_: Progress) -> None:
        nonlocal calls
        calls += 1
        raise RuntimeError("no bar")

    async def async_callback(progress: Progress) -> None:
        sync_callback(progress)

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with caplog.at_level(logging.WARNING, "offloop.progress"):
            await pool.run(b"", SLOW, on_progress=async_callback if is_async else sync_callback)
    assert calls == 1
    (record,) = [record for record in caplog.records if record.name == "offloop.progress"]
    assert record.exc_info is not None
    assert "no bar" in str(record.exc_info[1])


@pytest.mark.parametrize(("ending", "error"), [(Raise(), TaskFailed), (Exit(3), WorkerDied)])
async def test_a_task_that_fails_never_reports_one(anyio_backend: object, ending: Operation, error: type[Exception]) -> None:
    seen: list[float] = []
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with pytest.raises(error):
            await pool.run(b"", [Report(1.0), Wait(0.2), ending], on_progress=lambda progress: seen.append(progress.fraction))
        count = len(seen)
        await anyio.sleep(0.15)
        assert len(seen) == count
    assert max(seen, default=0.0) < 1.0


@pytest.mark.every_loop
async def test_an_async_callback_is_cancelled_when_the_task_fails(anyio_backend: object, tmp_path: Path) -> None:
    ended: list[str] = []
    begun = tmp_path / "begun"

    async def on_progress(_: Progress) -> None:
        begun.touch()
        try:
            await anyio.sleep(60)
        finally:
            ended.append("cancelled")

    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with anyio.fail_after(20), pytest.raises(TaskFailed):
            await pool.run(b"", [Report(0.5), HoldOn(str(begun)), Raise()], on_progress=on_progress)
        assert ended == ["cancelled"]


async def test_the_page_of_another_task_is_nobodys_progress(anyio_backend: object) -> None:
    """A worker's page says nothing about a task that waits for a worker, and nothing about another task."""
    seen: list[Progress] = []
    async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as tasks:
        tasks.start_soon(pool.run, b"", [Report(0.9), Wait(0.3)])
        await anyio.sleep(0.1)
        await pool.run(b"", [Noop()], on_progress=seen.append)
    assert [progress.fraction for progress in seen if progress.fraction == 0.9] == []
    assert seen[-1].fraction == 1.0


async def test_nothing_is_read_when_nothing_listens(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[object] = []
    monkeypatch.setattr("offloop.runtime.memory.segments.read_status", reads.append)
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        await pool.run(b"", [Wait(0.2)])
        assert reads == []
        await pool.run(b"", [Wait(0.2)], on_progress=lambda _: None)
        assert reads
        count = len(reads)
        await pool.run(b"", [Wait(0.2)])
        assert len(reads) <= count + 1


async def test_several_pipelines_have_one_progress(anyio_backend: object, gates: Gates) -> None:
    seen = gates.seen
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pipelines = {"a": [Report(0.5), gates.hold(0.25)], "b": [Report(0.5), gates.hold(0.75)]}
        outcomes = await pool.run_many(b"abc", pipelines, on_progress=gates.see)
        assert [outcome.error for outcome in outcomes.values()] == [None, None]
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)
    assert {0.25, 0.75} < set(fractions)
    assert (fractions[-1], fractions.count(1.0)) == (1.0, 1)


async def test_a_stream_has_the_progress_of_its_task(anyio_backend: object, gates: Gates) -> None:
    seen = gates.seen
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pipeline = [Report(0.5), gates.hold(0.5), Emit(2)]
        async with pool.stream(b"abc", pipeline, on_progress=gates.see) as frames:
            assert len([frame async for frame in frames]) == 2
        assert 0.5 in [progress.fraction for progress in seen]
        assert seen[-1].fraction == 1.0


@pytest.mark.every_loop
@pytest.mark.parametrize("leave", [True, False])
async def test_a_stream_that_fails_or_is_left_never_reports_one(anyio_backend: object, leave: bool, gates: Gates) -> None:
    seen: list[float] = []
    ended: list[str] = []

    async def on_progress(progress: Progress) -> None:
        gates.see(progress)
        if progress.fraction < 0.5:  # the task waits, or has just begun
            return
        seen.append(progress.fraction)
        try:
            await anyio.sleep(60)
        finally:
            ended.append("cancelled")

    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:
        pipeline = [Report(0.5), gates.hold(0.5), Emit(1, then="hang" if leave else "raise")]
        with anyio.fail_after(20):
            async with pool.stream(b"abc", pipeline, on_progress=on_progress) as frames:
                await anext(frames)
                if not leave:
                    with pytest.raises(TaskFailed):
                        await anext(frames)
                    assert ended == ["cancelled"]
        assert (seen, ended) == ([0.5], ["cancelled"])
