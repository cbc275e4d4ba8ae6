"""Memory admission with real workers: memory limits the number of running tasks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from weighing_plugin import Take, WeighingPlugin

from offloop import MemoryLimitExceeded, Pool, QueueFull, QueueTimeout, Statistics, TaskFailed
from offloop.testing.faults import FaultsPlugin, Grow, HoldOn, Noop

pytestmark = pytest.mark.anyio

MIB = 1 << 20
LARGE = 300  # mebibytes: two of them do not fit
LIMIT = "600MiB"


async def until(pool: Pool, condition: Callable[[Statistics], bool]) -> None:
    with anyio.fail_after(20):
        while not condition(pool.statistics()):
            await anyio.sleep(0.002)


async def test_two_large_tasks_that_do_not_fit_together_run_one_after_the_other(tmp_path: Path, anyio_backend: object) -> None:
    async with (
        Pool(2, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT) as pool,
        anyio.create_task_group() as task_group,
    ):
        for number in (1, 2):
            task_group.start_soon(pool.run, b"text", [Take(LARGE, hold=str(tmp_path / f"{number}"))])
        await until(pool, lambda seen: seen.running == 1 and seen.waiting_by_tenant == {"": 1})
        assert pool.statistics().memory_running_bytes == LARGE * MIB
        await pool.run(b"text", [Take(10)])  # a small one passes
        assert pool.statistics().running == 1
        (tmp_path / "1").touch()
        (tmp_path / "2").touch()
    assert pool.statistics().completed == 3
    assert pool.statistics().memory_running_bytes == 0


async def test_a_waiting_task_says_whether_it_waits_for_memory_or_for_a_worker(tmp_path: Path, anyio_backend: object) -> None:
    told: dict[str, list[tuple[str | None, float | None]]] = {"first": [], "memory": [], "worker": []}

    async def run(pool: Pool, name: str, operation: Take) -> None:
        await pool.run(
            b"text", [operation], on_progress=lambda progress: told[name].append((progress.waits_for, progress.cost_s))
        )

    async with (
        Pool(2, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT) as pool,
        anyio.create_task_group() as task_group,
    ):
        task_group.start_soon(run, pool, "first", Take(LARGE, hold=str(tmp_path / "1")))
        await until(pool, lambda seen: seen.running == 1)
        task_group.start_soon(run, pool, "memory", Take(LARGE, says_s=3.0, hold=str(tmp_path / "1")))
        await until(pool, lambda seen: seen.waiting_by_tenant == {"": 1})
        task_group.start_soon(pool.run, b"text", [Take(10, hold=str(tmp_path / "1"))])  # which passes
        await until(pool, lambda seen: seen.running == 2)
        task_group.start_soon(run, pool, "worker", Take(10, hold=str(tmp_path / "1")))
        with anyio.fail_after(20):
            while not told["memory"] or not told["worker"]:
                await anyio.sleep(0.002)
        (tmp_path / "1").touch()
    assert told["memory"][0] == ("memory", 3.0)
    assert told["worker"][0][0] == "worker"
    assert told["memory"][-1] == (None, 3.0)
    assert {waits_for for waits_for, _ in told["first"]} == {None}


async def test_what_can_never_fit_is_refused_with_both_numbers_and_its_source_is_not_read_in(
    tmp_path: Path, anyio_backend: object
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"text" + bytes(MIB))
    async with Pool(2, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT) as pool:
        for given in (source, source.read_bytes()):
            with pytest.raises(MemoryLimitExceeded, match=r"bytes of memory \(estimated\) were needed") as caught:
                await pool.run(given, [Take(700)])
            assert caught.value.asked_bytes == 700 * MIB + MIB + 4
            assert 500 * MIB < caught.value.limit_bytes < 600 * MIB
            assert pool.statistics().memory_reserved_bytes < MIB
        buffer = await pool.buffer(4).ready()
        buffer.view[:] = b"text"
        with pytest.raises(MemoryLimitExceeded):
            await pool.run(buffer, [Take(700)])
        await until(pool, lambda seen: seen.memory_used_bytes <= 2 * 256 * 1024)
        await pool.run(b"text", [Take(400)])
    assert (pool.statistics().refused, pool.statistics().completed) == (3, 1)


async def test_a_wrong_estimate_costs_one_task_and_the_next_is_let_in_with_more(anyio_backend: object) -> None:
    async with Pool(1, plugins=[WeighingPlugin], sandbox="off", memory_limit="600MiB") as pool:
        worker_starts = pool.statistics().worker_starts
        with pytest.raises(TaskFailed, match=r"more than the [\d,]+ bytes of private memory") as caught:
            await pool.run(b"text", [Take(10, mebibytes=400)])
        assert caught.value.code == "memory_limit"
        await pool.run(b"text", [Take(200, mebibytes=400)])
        assert pool.statistics().worker_starts == worker_starts


async def test_a_task_of_which_nothing_is_known_may_not_take_the_whole_limit(anyio_backend: object) -> None:
    async with Pool(4, plugins=[FaultsPlugin], memory_limit="400MiB") as pool, anyio.create_task_group() as callers:

        async def take() -> None:
            with pytest.raises(TaskFailed, match="part of memory_limit") as caught:
                await pool.run(b"", [Grow(300)])
            assert caught.value.code == "memory_limit"

        for _ in range(4):
            callers.start_soon(take)


async def test_what_tasks_took_corrects_what_the_next_is_charged_with(tmp_path: Path, anyio_backend: object) -> None:
    async with (
        Pool(2, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT) as pool,
        anyio.create_task_group() as task_group,
    ):
        hold = tmp_path / "hold"
        operation = Take(100, mebibytes=250, hold=str(hold))
        hold.touch()
        await pool.run(b"text", [operation])
        hold.unlink()
        task_group.start_soon(pool.run, b"text", [operation])
        await until(pool, lambda seen: seen.running == 1)
        assert 230 * MIB < pool.statistics().memory_running_bytes < 280 * MIB
        hold.touch()


async def test_in_shadow_it_is_only_counted(tmp_path: Path, anyio_backend: object) -> None:
    async with (
        Pool(2, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT, admission="shadow") as pool,
        anyio.create_task_group() as task_group,
    ):
        hold = str(tmp_path / "hold")
        for _ in range(2):
            task_group.start_soon(pool.run, b"text", [Take(LARGE, hold=hold)])
        await until(pool, lambda seen: seen.running == 2)
        assert pool.statistics().would_have_waited == 1
        (tmp_path / "hold").touch()
        await pool.run(b"text", [Take(700, mebibytes=1)])
        assert pool.statistics().would_have_been_refused == 1


async def test_switched_off_nothing_waits_and_nothing_is_refused(tmp_path: Path, anyio_backend: object) -> None:
    async with (
        Pool(2, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT, admission="off") as pool,
        anyio.create_task_group() as task_group,
    ):
        for _ in range(2):
            task_group.start_soon(pool.run, b"text", [Take(900, hold=str(tmp_path / "hold"))])
        await until(pool, lambda seen: seen.running == 2)
        (tmp_path / "hold").touch()
    assert (pool.statistics().would_have_waited, pool.statistics().would_have_been_refused) == (0, 0)


async def test_results_that_were_estimated_are_counted_once(anyio_backend: object) -> None:
    async with Pool(1, plugins=[WeighingPlugin], sandbox="off", memory_limit="400MiB") as pool:
        result = await pool.run(b"text", [Take(50, result_mebibytes=200)])
        assert result.nbytes == 200 * MIB


async def test_a_small_task_that_comes_while_all_workers_have_large_ones_does_not_wait_for_them(
    tmp_path: Path, anyio_backend: object
) -> None:
    async with (
        Pool(2, plugins=[WeighingPlugin], sandbox="off", memory_limit="1GiB", idle_timeout=0.2) as pool,
        anyio.create_task_group() as task_group,
    ):
        for _ in range(2):
            task_group.start_soon(pool.run, b"text", [Take(100, says_s=5.0, hold=str(tmp_path / "hold"))])
        await until(pool, lambda seen: seen.running == 2)
        with anyio.fail_after(20):
            for _ in range(5):
                await pool.run(b"text", [Take(1, says_s=0.01)])
        assert pool.statistics().running == 2
        task_group.start_soon(pool.run, b"text", [Take(100, says_s=5.0, hold=str(tmp_path / "hold"))])
        await until(pool, lambda seen: seen.waiting_by_tenant == {"": 1})
        (tmp_path / "hold").touch()
        await until(pool, lambda seen: seen.running == 0 and sum(seen.workers.values()) == 2)


async def test_workers_come_with_the_load_and_go_without_it(tmp_path: Path, anyio_backend: object) -> None:
    async with (
        Pool(min_workers=1, max_workers=3, plugins=[FaultsPlugin], idle_timeout=0.2) as pool,
        anyio.create_task_group() as task_group,
    ):
        assert pool.statistics().workers == {"idle": 1}
        for _ in range(5):
            task_group.start_soon(pool.run, b"", [HoldOn(str(tmp_path / "hold"))])
        await until(pool, lambda seen: seen.running == 3)
        assert sum(pool.statistics().workers.values()) == 3
        (tmp_path / "hold").touch()
        await until(pool, lambda seen: seen.workers == {"idle": 1})
        await pool.run(b"", [Noop()])


async def test_a_large_task_that_is_alone_may_use_all_processors_and_the_next_its_share(
    tmp_path: Path, anyio_backend: object
) -> None:
    async with Pool(4, plugins=[WeighingPlugin], sandbox="off", memory_limit="2GiB") as pool:
        assert (await pool.run(b"text", [Take(1, says_s=0.01)])).info.threads == 1
        assert (await pool.run(b"text", [Take(1, says_s=2.0)])).info.threads == 4
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(pool.run, b"text", [Take(2, says_s=2.0, hold=str(tmp_path / "hold"))])
            await until(pool, lambda seen: seen.running == 1)
            assert (await pool.run(b"text", [Take(3, says_s=2.0)])).info.threads == 2
            (tmp_path / "hold").touch()


async def test_a_queue_can_be_bounded_by_the_bytes_that_wait(tmp_path: Path, anyio_backend: object) -> None:
    async with (
        Pool(1, plugins=[FaultsPlugin], max_queue_bytes="1MiB") as pool,
        anyio.create_task_group() as task_group,
    ):
        hold = [HoldOn(str(tmp_path / "hold"))]
        task_group.start_soon(pool.run, bytes(3 * MIB), hold)  # it does not wait
        await until(pool, lambda seen: seen.running == 1)
        task_group.start_soon(pool.run, bytes(MIB // 2), hold)
        await until(pool, lambda seen: seen.waiting_bytes == MIB // 2)
        (tmp_path / "source").write_bytes(bytes(MIB))
        for source in (bytes(MIB), tmp_path / "source"):
            with pytest.raises(QueueFull, match=r"524,288 bytes already wait, and this source has 1,048,576; the limit"):
                await pool.run(source, hold)
        (tmp_path / "hold").touch()
    assert pool.statistics().waiting_bytes == 0


async def test_a_task_that_would_wait_for_longer_than_it_may_is_refused_at_once(tmp_path: Path, anyio_backend: object) -> None:
    async with (
        Pool(1, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT) as pool,
        anyio.create_task_group() as task_group,
    ):
        for number in range(4):
            task_group.start_soon(pool.run, b"text", [Take(1, says_s=100.0 + number, hold=str(tmp_path / "hold"))])
        await until(pool, lambda seen: seen.running == 1 and seen.waiting_by_tenant == {"": 3})
        assert pool.statistics().waiting_cost_s == pytest.approx(306.0, rel=0.01)
        with pytest.raises(QueueTimeout, match="would have to wait") as caught:
            await pool.run(b"text", [Take(1, says_s=100.0)], queue_timeout=60.0)
        assert caught.value.expected_s is not None
        assert caught.value.expected_s > 60.0
        (tmp_path / "hold").touch()


async def test_a_burst_of_large_files_leaves_memory_for_a_task_on_each_worker(tmp_path: Path, anyio_backend: object) -> None:
    large, hold = tmp_path / "large", str(tmp_path / "hold")
    large.write_bytes(b"text" + bytes(40 * MIB))
    async with (
        Pool(2, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT) as pool,
        anyio.create_task_group() as task_group,
    ):
        for _ in range(8):
            task_group.start_soon(pool.run, large, [Take(150, hold=hold)])
        await until(pool, lambda seen: seen.running == 2)
        Path(hold).touch()
    assert pool.statistics().completed == 8


async def test_a_small_file_does_not_wait_until_large_ones_are_read(tmp_path: Path, anyio_backend: object) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    large.write_bytes(b"text" + bytes(2 * MIB))
    small.write_bytes(b"text")
    async with Pool(1, plugins=[WeighingPlugin], sandbox="off") as pool, anyio.create_task_group() as task_group:
        assert pool._supervisor is not None
        threads = pool._supervisor.background.large_file_threads
        for _ in range(int(threads.total_tokens)):
            threads.acquire_on_behalf_of_nowait(object())  # as many large files are being read as may be at once
        for _ in range(20):
            task_group.start_soon(pool.run, large, [Take(1)])
        await until(pool, lambda seen: seen.leases["stager"] == 20)
        with anyio.fail_after(20):
            await pool.run(small, [Take(1)])
        assert pool.statistics().completed == 1
        threads.total_tokens = 100


async def test_a_worker_has_a_hard_limit_that_it_cannot_raise(anyio_backend: object) -> None:
    import resource

    async with Pool(1, plugins=[WeighingPlugin], sandbox="off", memory_limit=LIMIT) as pool:
        await pool.run(b"text", [Take(1)])
        (pid,) = [int(name) for name in os.listdir("/proc") if name.isdigit() and _is_child(name)]
        assert resource.prlimit(pid, resource.RLIMIT_DATA)[1] == (600 + 256) * MIB


def _is_child(pid: str) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[1]) == os.getpid() and b"offloop.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
