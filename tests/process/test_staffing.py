"""Number of workers: spares, resizing, recycling, and draining."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from second_plugin import Greet, GreetingPlugin

from offloop import Pool, PoolClosed, Statistics, WorkerDied, WorkerMemoryTooSmall, WorkerMoved
from offloop.testing.faults import Allocate, Echo, FaultsPlugin, Grow, Hang, HoldOn, Inspect, Noop, Wait

pytestmark = pytest.mark.anyio


async def until(pool: Pool, what: Callable[[Statistics], bool]) -> None:
    """Return when the pool's numbers are like that; they change only with an event."""
    reader = pool.events()
    with anyio.fail_after(20):
        while not what(pool.statistics()):
            await anext(reader)
    reader.close()


async def pid_of(pool: Pool) -> int:
    return (await pool.run(b"", [Inspect()])).info.pid


# Spares


async def test_a_spare_takes_the_place_of_a_worker_that_dies(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], spares=1) as pool:
        assert pool.statistics().workers == {"idle": 2}
        dead = await pid_of(pool)
        starts = pool.statistics().worker_starts
        os.kill(dead, signal.SIGKILL)
        await until(pool, lambda numbers: numbers.worker_crashes == 1)
        assert await pid_of(pool) != dead
        assert pool.statistics().worker_starts <= starts + 1, "no worker had to be started for it"
        await until(pool, lambda numbers: numbers.workers == {"idle": 2})


async def test_spares_do_not_raise_the_number_of_tasks_at_once(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin], spares=2) as pool:
        async with anyio.create_task_group() as task_group:
            for _ in range(4):
                task_group.start_soon(pool.run, b"", [Wait(60)])
            await anyio.wait_all_tasks_blocked()
            numbers = pool.statistics()
            assert (numbers.running, numbers.waiting, numbers.workers) == (2, 2, {"busy": 2, "idle": 2})
            task_group.cancel_scope.cancel()


async def test_a_task_that_must_be_killed_does_not_hold_up_the_next_one(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], spares=1, grace=0.05) as pool:
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(assert_times_out, pool)
            await anyio.wait_all_tasks_blocked()
            assert bytes(await pool.run(b"next", [Echo()])) == b"next"
        assert pool.statistics().worker_crashes == 0, "a time-out is not a crash"


async def assert_times_out(pool: Pool) -> None:
    with pytest.raises(TimeoutError):
        await pool.run(b"", [Hang("hold_gil")], timeout=0.05)


# Resizing


async def test_a_pool_grows_and_shrinks_while_it_works(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        await pool.resize(3)
        assert (pool.statistics().workers, pool.statistics().concurrency) == ({"idle": 3}, 3)
        async with anyio.create_task_group() as task_group:
            for number in range(30):
                task_group.start_soon(assert_echoes, pool, b"%d" % number)
            await pool.resize(1)
            assert sum(pool.statistics().workers.values()) == 1
        assert pool.statistics().completed == 30
        assert pool.statistics().worker_crashes == 0


async def assert_echoes(pool: Pool, data: bytes) -> None:
    assert bytes(await pool.run(data, [Echo()])) == data


async def test_a_busy_worker_that_is_too_many_finishes_first(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as task_group:
        for _ in range(2):
            task_group.start_soon(pool.run, b"", [Wait(0.2)])
        await anyio.wait_all_tasks_blocked()
        await pool.resize(1)
        numbers = pool.statistics()
        assert (sum(numbers.workers.values()), numbers.cancelled, numbers.worker_died) == (1, 0, 0)


@pytest.mark.parametrize("nonsense", [0, -1, 1_000_000])
async def test_a_size_that_makes_no_sense_is_refused(anyio_backend: object, nonsense: int) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        with pytest.raises(ValueError, match=f"workers={nonsense}: must be from 1 to"):
            await pool.resize(nonsense)


async def test_a_pool_that_cannot_grow_says_why(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        alive = await pid_of(pool)
        monkeypatch.setattr(sys, "executable", "/nonexistent/python")
        os.kill(alive, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="could not be started: FileNotFoundError"):
            await pool.resize(2)
        monkeypatch.undo()
        await until(pool, lambda numbers: numbers.workers == {"idle": 2})
        assert bytes(await pool.run(b"well again", [Echo()])) == b"well again"


# Recycling


@pytest.mark.parametrize("limit", [1, 4])
async def test_no_process_has_more_tasks_than_its_limit(anyio_backend: object, limit: int) -> None:
    async with Pool(2, plugins=[FaultsPlugin], max_tasks_per_worker=limit) as pool:
        reader = pool.events()
        pids: Counter[int] = Counter()

        async def submit() -> None:
            for _ in range(5):
                pids[await pid_of(pool)] += 1

        async with anyio.create_task_group() as callers:
            for _ in range(3):
                callers.start_soon(submit)
        assert pids.total() == 15
        assert max(pids.values()) <= limit
        numbers = pool.statistics()
        assert (numbers.completed, numbers.worker_crashes) == (15, 0)
        reader.close()
        causes = {
            event.cause async for event in reader if isinstance(event, WorkerMoved) if event.event == "RetirementRequested"
        }
        assert causes & {f"it was given {tasks} tasks" for tasks in range(1, limit + 1)}  # a worker's limit has jitter


async def test_a_memory_limit_for_workers_below_what_a_loaded_one_has_is_said_with_both_numbers(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "offloop.supervisor")
    async with Pool(1, plugins=[FaultsPlugin], max_worker_memory="32MiB") as pool:
        reader = pool.events()
        while pool.statistics().worker_recycled < 2:
            await pool.run(b"", [Grow(64)])
        reader.close()
        (report,) = [event async for event in reader if isinstance(event, WorkerMemoryTooSmall)]
    assert (report.limit_bytes, report.limited_by) == (32 << 20, "max_worker_memory")
    assert report.private_bytes > 64 << 20
    (line,) = [line for line in caplog.messages if "max_worker_memory" in line]
    assert f"{32 << 20} bytes" in line
    assert str(report.private_bytes) in line


async def test_a_worker_that_has_grown_is_replaced(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], max_worker_memory="64MiB", memory_limit="64MiB") as pool:
        before = await pid_of(pool)
        await pool.run(b"", [Allocate(1000), Grow(96)])
        reader = pool.events()
        while pool.statistics().worker_recycled == 0:
            await pid_of(pool)
        reader.close()
        causes = [event.cause async for event in reader if isinstance(event, WorkerMoved)]
        assert await pid_of(pool) != before
        assert any("bytes of private memory, and " in cause for cause in causes)


async def test_a_worker_that_has_grown_old_is_replaced(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], max_worker_age=1.0) as pool:
        before = await pid_of(pool)
        await until(pool, lambda numbers: numbers.worker_recycled >= 1 and numbers.workers == {"idle": 1})
        assert await pid_of(pool) != before
        assert pool.statistics().worker_crashes == 0


# Draining


async def test_a_drained_pool_finishes_what_it_has_and_takes_nothing_new(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        results: list[bytes] = []

        async def echo(data: bytes) -> None:
            results.append(bytes(await pool.run(data, [Wait(0.05), Echo()])))

        async with anyio.create_task_group() as task_group:
            for number in range(3):
                task_group.start_soon(echo, b"%d" % number)
            await anyio.wait_all_tasks_blocked()
            task_group.start_soon(assert_refused_while_draining, pool)
            assert await pool.drain(20)
        assert sorted(results) == [b"0", b"1", b"2"]
        assert pool.statistics().workers == {}
        with pytest.raises(PoolClosed):
            await pool.run(b"", [Noop()])


async def assert_refused_while_draining(pool: Pool) -> None:
    with pytest.raises(PoolClosed):
        await pool.run(b"late", [Echo()])


@pytest.mark.every_loop
async def test_what_is_not_finished_in_time_is_stopped(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.05) as pool:

        async def hang() -> None:
            with pytest.raises(PoolClosed):
                await pool.run(b"", [Hang("spin")])

        async with anyio.create_task_group() as task_group:
            task_group.start_soon(hang)
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(10):
                assert not await pool.drain(0.1)


async def test_an_idle_pool_is_drained_at_once_and_twice_is_no_harm(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        assert await pool.drain(0)
        assert await pool.drain(0)


@pytest.mark.every_loop
async def test_a_drain_that_is_cancelled_leaves_what_runs_alone(anyio_backend: object, tmp_path: Path) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(pool.run, b"", [HoldOn(str(tmp_path / "go"))])
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05):
            await pool.drain()
        assert pool.statistics().running == 1
        with pytest.raises(PoolClosed):
            await pool.run(b"", [Noop()])
        (tmp_path / "go").touch()


@pytest.mark.every_loop
async def test_a_drain_that_another_cut_short_does_not_say_that_all_ended_by_itself(anyio_backend: object) -> None:
    ended: list[bool] = []

    async def hang() -> None:
        with pytest.raises(PoolClosed):
            await pool.run(b"", [Wait(60)])

    async def drain(timeout: float | None) -> None:
        ended.append(await pool.drain(timeout))

    async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(hang)
        await anyio.wait_all_tasks_blocked()
        task_group.start_soon(drain, None)
        task_group.start_soon(drain, 0.05)
    assert ended == [False, False]


@pytest.mark.every_loop
@pytest.mark.parametrize("turns", [0, 1, 2, 5, 20])
async def test_a_pool_that_is_drained_while_it_opens_does_not_open(anyio_backend: object, turns: int) -> None:
    pool = Pool(2, plugins=[FaultsPlugin])

    async def enter() -> None:
        with pytest.raises(PoolClosed, match="closed while it was opening"):
            async with pool:
                raise AssertionError("it opened")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(enter)
            while pool._supervisor is None:
                await anyio.sleep(0)
            for _ in range(turns):
                await anyio.sleep(0)
            assert await pool.drain()


SERVER = """
import signal, sys
import anyio
from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Hang, Wait

async def task(pool, operation):
    try:
        await pool.run(b"", [operation])
        print("finished", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)

async def main(operation, timeout):
    async with Pool(1, plugins=[FaultsPlugin], grace=0.1) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(task, pool, operation)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
            await anyio.wait_all_tasks_blocked()
            print("ready", flush=True)
            async for _ in received:
                print(await pool.drain(timeout), flush=True)
                break

anyio.run(main, {operation}, {timeout})
"""


@pytest.mark.parametrize(
    ("operation", "timeout", "expected"),
    [("Wait(0.5)", 20, ["finished", "True"]), ("Hang('hold_gil')", 0.2, ["PoolClosed", "False"])],
    ids=["it ends by itself", "it must be killed"],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_told_to_stop_drains_its_pool(
    tmp_path: Path, operation: str, timeout: float, expected: list[str], number: signal.Signals
) -> None:
    """SIGINT goes to the whole group, as from a terminal: the workers have groups of their own, and work on."""
    script = tmp_path / "server.py"
    script.write_text(SERVER.replace("{operation}", operation).replace("{timeout}", str(timeout)))
    server = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdout is not None
    with server:
        assert server.stdout.readline() == "ready\n"
        os.killpg(server.pid, number)
        output, _ = server.communicate(timeout=30)
    assert sorted(output.split()) == sorted(expected)
    assert server.returncode == 0


async def test_a_spare_has_loaded_its_plugin_before_its_first_task(
    anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "offloop.worker")
    async with Pool(1, plugins=[GreetingPlugin], spares=1) as pool:
        await pool.run(b"", [Greet()])
        with anyio.fail_after(10):
            while sum("greeting is loaded" in line for line in caplog.messages) < 2:
                await anyio.sleep(0.005)
        assert pool.statistics().completed == 1
