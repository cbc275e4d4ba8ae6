"""Workers that SIGKILL does not end: their task and the close of the pool are bounded, and their memory is not reused."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import msgspec
import pytest

from offloop import Pool, Statistics, WorkerDied
from offloop.testing import UnkillableWorkers, pool_with
from offloop.testing.faults import Allocate, Echo, FaultsPlugin, Hang, Wait

pytestmark = pytest.mark.anyio

FREEZER = Path("/sys/fs/cgroup/freezer")  # of cgroup v1: there SIGKILL does not end a frozen process


class Freezer:
    """A cgroup in which processes can be frozen."""

    def __init__(self) -> None:
        self._group = FREEZER / f"offloop-test-{os.getpid()}"
        self._group.mkdir()

    def freeze(self, pid: int) -> None:
        (self._group / "cgroup.procs").write_text(str(pid))
        (self._group / "freezer.state").write_text("FROZEN")

    def thaw(self) -> None:
        (self._group / "freezer.state").write_text("THAWED")

    def close(self) -> None:
        self.thaw()
        self._group.rmdir()


@pytest.fixture
def freezer() -> Iterator[Freezer]:
    try:
        freezer = Freezer()
    except OSError as error:
        pytest.skip(f"no freezer of cgroup v1 can be used here: {error}")
    yield freezer
    freezer.close()


@pytest.fixture
def workers() -> Iterator[UnkillableWorkers]:
    workers = UnkillableWorkers(1)
    yield workers
    workers.release()


def wait_for_kills(pool: Pool, seconds: float) -> None:
    """Shorten the time that the pool waits for waitid's word."""
    assert pool._supervisor is not None
    msgspec.structs.force_setattr(pool._supervisor.core.settings, "kill_timeout_s", seconds)


def pid_of_a_worker(pool: Pool, *, busy: bool) -> int:
    assert pool._supervisor is not None
    (pid,) = [slot.pid for slot in pool._supervisor.core.worker_table if (slot.task is not None) is busy]
    assert pid is not None
    return pid


async def until(pool: Pool, what: Callable[[Statistics], bool]) -> None:
    with anyio.fail_after(20):
        while not what(pool.statistics()):
            await anyio.sleep(0.01)


async def until_gone(pid: int) -> None:
    with anyio.fail_after(20):
        while Path(f"/proc/{pid}").exists():
            await anyio.sleep(0.01)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "offloop.supervisor"]


async def test_a_worker_that_cannot_be_killed_costs_its_task_and_holds_its_memory(
    workers: UnkillableWorkers, anyio_backend: object
) -> None:
    async with pool_with(workers, 1, plugins=[FaultsPlugin], memory_limit="256MiB") as pool:
        wait_for_kills(pool, 0.2)
        with pytest.raises(WorkerDied, match=r"is lost: it could not be killed within 0\.2 s") as died:
            await pool.run(b"abc", [Allocate(5_000_000), Hang("hold_gil")], timeout=0.5)
        assert died.value.report is not None
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc", "another process has the slot"
        numbers = pool.statistics()
        assert (numbers.workers_abandoned, numbers.worker_starts) == (1, 2)
        assert numbers.leases["abandoned"] >= 1
        assert numbers.memory_used_bytes >= 5_000_000, "what it may still write to is not reused"
        workers.release()
        await until(pool, lambda numbers: numbers.workers_abandoned == 0)
        assert pool.statistics().leases["abandoned"] == 0
        assert pool.statistics().memory_used_bytes < 5_000_000


@pytest.mark.every_loop
async def test_a_pool_is_left_though_a_worker_cannot_be_killed(
    workers: UnkillableWorkers, anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_with(workers, 1, plugins=[FaultsPlugin]) as pool:
        wait_for_kills(pool, 0.2)
        with pytest.raises(WorkerDied) as died:
            await pool.run(b"abc", [Hang("hold_gil")], timeout=0.5)
        with anyio.fail_after(10):
            await pool.drain(5)
    assert died.value.report is not None
    pid = died.value.report.pid
    assert pid is not None
    (left,) = [text for text in warnings_of(caplog) if "the pool is closed without it" in text]
    assert f"process {pid} " in left
    workers.release()
    await until_gone(pid)


async def test_a_frozen_worker_is_given_up_and_reaped_when_it_is_thawed(
    freezer: Freezer, anyio_backend: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "offloop.supervisor")
    pool = Pool(2, plugins=[FaultsPlugin])
    deaths: list[str] = []
    pid = 0

    async def submit() -> None:
        with pytest.raises(WorkerDied) as died:
            await pool.run(b"", [Wait(60)], timeout=1)
        deaths.append(str(died.value))

    async with pool, anyio.create_task_group() as callers:
        wait_for_kills(pool, 0.5)
        callers.start_soon(submit)
        await until(pool, lambda numbers: numbers.running == 1)
        pid = pid_of_a_worker(pool, busy=True)
        freezer.freeze(pid)
        await until(pool, lambda numbers: numbers.workers_abandoned == 1)
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
    assert "it could not be killed within 0.5 s" in deaths[0]
    assert Path(f"/proc/{pid}").exists(), "it is still frozen, and the pool is closed"
    assert any(f"process {pid} was killed and has not ended" in text for text in warnings_of(caplog))
    freezer.thaw()
    await until_gone(pid)


async def test_an_idle_worker_that_is_frozen_does_not_hold_up_the_close(freezer: Freezer, anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        wait_for_kills(pool, 0.3)
        pid = pid_of_a_worker(pool, busy=False)
        freezer.freeze(pid)
        with anyio.fail_after(10):
            await pool.drain(5)
    freezer.thaw()
    await until_gone(pid)
