"""Failures of a processor in a real worker: one clear, typed error, and the pool goes on."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from offloop import (
    InvalidTask,
    MemoryLimitExceeded,
    PluginError,
    Pool,
    PoolClosed,
    QueueFull,
    QueueTimeout,
    TaskFailed,
    TaskTimeout,
    WorkerDied,
)
from offloop.testing.faults import (
    Allocate,
    Echo,
    Exit,
    FaultsPlugin,
    Hang,
    Inspect,
    Kill,
    Noop,
    PrintText,
    Raise,
    ReturnNonsense,
    Wait,
    WriteStderr,
)

pytestmark = pytest.mark.anyio


async def assert_whole(pool: Pool) -> None:
    """Both workers take tasks and echo what they are given."""
    async with anyio.create_task_group() as task_group:
        for number in range(4):
            task_group.start_soon(assert_echoes, pool, b"%d" % number * 1000)


async def assert_echoes(pool: Pool, data: bytes) -> None:
    assert bytes(await pool.run(data, [Echo()])) == data


WHAT_IS_RAISED: dict[Any, str] = {
    "ordinary": "ValueError: as ordered",
    "unpicklable": "_Unpicklable: ('holds a lock'",
    "textless": "_Textless (its text cannot be read)",
    "system_exit": "SystemExit: 7",
}


async def test_whatever_a_processor_raises_comes_back_as_text(pool: Pool) -> None:
    worker = (await pool.run(b"", [Inspect()])).info.pid
    for kind, text in WHAT_IS_RAISED.items():
        with pytest.raises(TaskFailed) as caught:
            await pool.run(b"", [Raise(kind)])
        assert caught.value.code == "exception"
        assert caught.value.message.startswith(text)
        assert "_raise" in str(caught.value.remote_traceback)
        assert (await pool.run(b"", [Inspect()])).info.pid == worker, f"the worker goes on after {kind}"


async def test_a_processor_names_its_own_failure(pool: Pool) -> None:
    with pytest.raises(TaskFailed) as caught:
        await pool.run(b"", [Raise("task_failed")])
    assert (caught.value.code, caught.value.message, caught.value.remote_traceback) == ("refused", "as ordered", None)


async def test_a_processor_that_returns_no_payload_is_a_broken_plugin(pool: Pool) -> None:
    with pytest.raises(PluginError, match=r"plugin 'faults'.*returned int"):
        await pool.run(b"", [ReturnNonsense()])
    await assert_whole(pool)


async def test_exit_3_costs_one_task(pool: Pool) -> None:
    with pytest.raises(WorkerDied) as caught:
        await pool.run(b"", [Exit(3)])
    assert (caught.value.exit_code, caught.value.signal) == (3, None)
    await assert_whole(pool)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT", "SIGTERM", "SIGBUS"])
async def test_a_signal_that_ends_the_worker_costs_one_task(pool: Pool, name: str) -> None:
    with pytest.raises(WorkerDied) as caught:
        await pool.run(b"", [Kill(signal.Signals[name])])
    assert (caught.value.exit_code, caught.value.signal) == (None, signal.Signals[name])
    await assert_whole(pool)


async def test_a_crash_report_carries_the_fault_handlers_traceback(pool: Pool) -> None:
    with pytest.raises(WorkerDied) as caught:
        await pool.run(b"", [Kill(signal.SIGSEGV)])
    assert caught.value.running == "faults (Kill)"
    assert "Segmentation fault" in "".join(caught.value.__notes__)
    assert "faults_processor.py" in caught.value.stderr_tail


@pytest.mark.parametrize("how", ["sleep", "spin", "hold_gil"])
async def test_a_processor_that_never_returns_is_killed_after_its_timeout_and_grace(pool: Pool, how: Any) -> None:
    started = anyio.current_time()
    with pytest.raises(TaskTimeout) as caught:
        await pool.run(b"", [Hang(how)], timeout=0.1)
    assert not caught.value.obeyed
    assert isinstance(caught.value, TimeoutError)
    assert 0.1 + 0.25 <= anyio.current_time() - started < 5
    await assert_whole(pool)


async def test_a_processor_that_obeys_keeps_its_worker(pool: Pool) -> None:
    pids = {(await pool.run(b"", [Inspect()])).info.pid for _ in range(2)}
    with pytest.raises(TaskTimeout) as caught:
        await pool.run(b"", [Wait(60)], timeout=0.1)
    assert caught.value.obeyed
    assert (await pool.run(b"", [Inspect()])).info.pid in pids
    assert pool.statistics().worker_starts == 2


@pytest.mark.parametrize("fault", [Exit(3), Kill(signal.SIGSEGV), Hang("hold_gil")], ids=["exit", "segfault", "hang"])
async def test_the_fault_of_one_task_leaves_all_others_untouched(pool: Pool, fault: Exit | Kill | Hang) -> None:
    async def fail() -> None:
        with pytest.raises((WorkerDied, TaskTimeout)):
            await pool.run(b"", [fault], timeout=0.2)

    async with anyio.create_task_group() as task_group:
        for number in range(50):
            if number == 10:
                task_group.start_soon(fail)
            task_group.start_soon(assert_echoes, pool, b"%d" % number)
    statistics = pool.statistics()
    assert (statistics.completed, statistics.worker_died + statistics.timed_out) == (50, 1)


@pytest.mark.every_loop
async def test_printing_reaches_the_log_and_not_the_protocol(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "offloop.worker"):
        assert bytes(await pool.run(b"abc", [PrintText("hello from the worker\n"), Echo()])) == b"abc"
        with anyio.fail_after(10):
            while "hello from the worker" not in caplog.text:
                await anyio.lowlevel.checkpoint()


async def test_ten_megabytes_on_stderr_neither_block_the_worker_nor_the_server(pool: Pool) -> None:
    assert bytes(await pool.run(b"abc", [WriteStderr(10_000_000), Echo()])) == b"abc"


async def test_a_plugin_whose_processor_cannot_be_imported_is_named(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin, "broken_plugins:NoProcessor"]) as pool:
        from broken_plugins import Step

        with pytest.raises(PluginError, match=r"plugin 'no_processor'.*RuntimeError: as ordered"):
            await pool.run(b"", [Step()])
        await assert_whole(pool)


async def test_a_plugin_whose_import_fails_is_refused_at_entry(anyio_backend: object) -> None:
    with pytest.raises(PluginError, match=r"plugin 'broken_import:Plugin': cannot be imported: RuntimeError: as ordered"):
        async with Pool(1, plugins=["broken_import:Plugin"]):
            pytest.fail("the pool was opened")


async def test_an_operation_of_no_plugin_is_refused_before_anything_starts(pool: Pool) -> None:
    from broken_plugins import Step

    with pytest.raises(InvalidTask, match=r"Step belongs to no plugin of this pool \(it has: faults"):
        await pool.run(b"", [Step()])
    with pytest.raises(InvalidTask, match="the pipeline is empty"):
        await pool.run(b"", [])
    with pytest.raises(InvalidTask, match="not an operation"):
        await pool.run(b"", ["resize"])  # pyright: ignore[reportArgumentType]
    assert pool.statistics().submitted == 0


async def test_a_source_larger_than_the_inbox_is_refused_with_both_numbers(pool: Pool) -> None:
    with pytest.raises(MemoryLimitExceeded) as caught:
        await pool.run(bytes(200 * 1024 * 1024), [Echo()])
    assert (caught.value.asked_bytes, caught.value.limit_bytes) == (200 * 1024 * 1024, 192 * 1024 * 1024)


async def test_a_result_larger_than_the_arena_is_refused_with_both_numbers(pool: Pool) -> None:
    with pytest.raises(MemoryLimitExceeded) as caught:
        await pool.run(b"", [Allocate(1 << 40)])
    assert (caught.value.asked_bytes, caught.value.limit_bytes) == (1 << 40, 256 * 1024 * 1024)
    await assert_whole(pool)


async def test_a_path_that_cannot_be_read_is_the_callers_fault(pool: Pool) -> None:
    with pytest.raises(InvalidTask, match=r"cannot be read"):
        await pool.run(Path("no such file"), [Echo()])
    with pytest.raises(InvalidTask, match=r"a directory, and not a regular file"):
        await pool.run(Path(), [Echo()])


async def test_nonsense_limits_are_refused_by_name(pool: Pool) -> None:
    limits: list[dict[str, Any]] = [{"timeout": -1}, {"timeout": float("nan")}, {"queue_timeout": -0.5}, {"timeout": "1"}]
    for limit in limits:
        with pytest.raises((ValueError, TypeError), match=next(iter(limit))):
            await pool.run(b"", [Noop()], **limit)
    assert pool.statistics().submitted == 0


async def test_a_closed_pool_says_so(anyio_backend: object) -> None:
    pool = Pool(1, plugins=[FaultsPlugin])
    with pytest.raises(PoolClosed):
        await pool.run(b"", [Noop()])
    async with pool:
        await pool.run(b"", [Noop()])
    for attempt in (pool.run(b"", [Noop()]), pool.probe(b"")):
        with pytest.raises(PoolClosed):
            await attempt
    with pytest.raises(PoolClosed):
        pool.buffer(1)
    with pytest.raises(PoolClosed):
        await pool.__aenter__()


async def test_a_full_queue_refuses_at_once(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], max_queue=1) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(pool.run, b"", [Wait(60)])
        task_group.start_soon(pool.run, b"", [Wait(60)])
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(QueueFull) as caught:
            await pool.run(b"", [Noop()])
        assert (caught.value.queued, caught.value.max_queue) == (1, 1)
        task_group.cancel_scope.cancel()


async def test_a_task_that_waits_longer_than_its_queue_timeout_is_never_started(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(pool.run, b"", [Wait(60)])
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(QueueTimeout) as caught:
            await pool.run(b"", [Exit(1)], queue_timeout=0.1)
        assert (caught.value.queue_timeout_s, caught.value.waiting_for) == (0.1, "a worker")
        task_group.cancel_scope.cancel()
    assert pool.statistics().worker_starts == 1
