"""Opening and closing a pool: in every case, no worker and no memory outlives it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from offloop import Pool, PoolClosed, WorkerDied
from offloop.testing import Surroundings
from offloop.testing.faults import Echo, Exit, FaultsPlugin, Hang, Inspect, Noop, Wait

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]


class Ordered(Exception):
    """Raised inside a pool."""


async def test_an_exception_inside_the_block_comes_out_as_it_is(anyio_backend: object) -> None:
    with pytest.raises(Ordered):
        async with Pool(1, plugins=[FaultsPlugin]):
            raise Ordered


@pytest.mark.parametrize(
    "operation", [Noop(), Wait(60), Hang("hold_gil"), Exit(1)], ids=lambda operation: type(operation).__name__
)
async def test_an_exception_while_tasks_run_and_wait_comes_out_and_they_end(anyio_backend: object, operation: Noop) -> None:
    ended = 0

    async def submit(pool: Pool) -> None:
        nonlocal ended
        with contextlib.suppress(PoolClosed, WorkerDied):
            await pool.run(bytes(1000), [operation])
        ended += 1

    async with anyio.create_task_group() as task_group:
        with pytest.raises(Ordered):
            async with Pool(2, plugins=[FaultsPlugin], grace=0.1) as pool:
                for _ in range(6):
                    task_group.start_soon(submit, pool)
                await anyio.wait_all_tasks_blocked()
                raise Ordered
    assert ended == 6


async def test_a_cancelled_block_is_left_clean(anyio_backend: object) -> None:
    with anyio.move_on_after(0.2) as scope:
        async with Pool(2, plugins=[FaultsPlugin], grace=0.1) as pool:
            await pool.run(b"", [Hang("hold_gil")])
    assert scope.cancelled_caught


async def test_a_block_cancelled_while_the_pool_opens_is_left_clean(anyio_backend: object) -> None:
    for step in range(12):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as task_group:

                async def cancel_after(turns: int, scope: anyio.CancelScope = scope) -> None:
                    for _ in range(turns):
                        await anyio.lowlevel.checkpoint()
                    scope.cancel()

                task_group.start_soon(cancel_after, step)
                async with Pool(1, plugins=[FaultsPlugin]):
                    await anyio.sleep_forever()


async def test_leaving_ends_what_is_still_held_with_pool_closed(anyio_backend: object) -> None:
    outcomes: list[str] = []

    async def submit(pool: Pool, seconds: float) -> None:
        try:
            await pool.run(b"", [Wait(seconds)])
        except PoolClosed:
            outcomes.append("closed")

    async with anyio.create_task_group() as task_group:
        async with Pool(1, plugins=[FaultsPlugin]) as pool:
            for _ in range(5):
                task_group.start_soon(submit, pool, 60)
            await anyio.wait_all_tasks_blocked()
    assert outcomes == ["closed"] * 5


async def test_results_stay_valid_after_the_pool(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        result = await pool.run(b"abc" * 100_000, [Echo()])
        buffer = pool.buffer(10)
        buffer.view[:] = b"0123456789"
    assert bytes(result) == b"abc" * 100_000
    assert bytes(buffer.view) == b"0123456789"


async def test_two_pools_live_side_by_side(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as one, Pool(1, plugins=[FaultsPlugin]) as other:
        result = await one.run(b"abc", [Echo()])
        assert bytes(await other.run(result.data, [Echo()])) == b"abc"
        assert bytes(await other.run(result, [Echo()])) == b"abc"


async def test_a_pool_whose_workers_cannot_start_says_why(anyio_backend: object) -> None:
    broken = [sys.executable, "-c", "raise ImportError('as ordered')"]
    with pytest.raises(WorkerDied, match=r"(?s)exited with code 1 during its start.*as ordered") as caught:
        async with Pool(2, plugins=[FaultsPlugin], executable=broken):
            pytest.fail("the pool was opened")
    assert caught.value.exit_code == 1


async def test_a_pool_whose_interpreter_is_missing_says_why(anyio_backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(WorkerDied, match="could not be started: FileNotFoundError"):
        async with Pool(1, plugins=[FaultsPlugin]):
            pytest.fail("the pool was opened")


async def test_descriptors_are_back_where_they_were(anyio_backend: object) -> None:
    async def live() -> None:
        async with Pool(2, plugins=[FaultsPlugin], grace=0.1) as pool:
            await pool.run(bytes(1_000_000), [Echo()])
            with pytest.raises(WorkerDied):
                await pool.run(b"", [Exit(1)])

    await live()  # the loop, the thread pool and the resource tracker keep some for good
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await live()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_worker_sees_neither_the_protocol_nor_the_server(pool: Pool) -> None:
    info = (await pool.run(b"", [Inspect()])).info
    modules = set(info.modules)
    assert not {"asyncio", "anyio", "trio", "uvloop", "offloop.pool"} & modules
    assert not {name for name in modules if name.startswith(("offloop.host", "offloop.core"))}
    low = {number: target for number, target in info.descriptors.items() if int(number) < 100}
    assert low["0"] == "/dev/null"
    assert low["1"] == low["2"]
    assert not {number for number, target in low.items() if int(number) > 2 and target.startswith(("socket", "pipe"))}
    assert not {target for target in info.descriptors.values() if "shm" in target}, "a segment could be truncated"


SERVER = """
import os, sys, anyio
from offloop import Pool
from offloop.testing.faults import *

async def main():
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        pids = set()
        while len(pids) < 2:
            async with anyio.create_task_group() as task_group:
                async def look():
                    pids.add((await pool.run(b"", [Wait(0.05), Inspect()])).info.pid)
                task_group.start_soon(look)
                task_group.start_soon(look)
        held = await pool.run(bytes(5_000_000), [Echo()])
        async with anyio.create_task_group() as task_group:
            for operation in OPERATIONS:
                task_group.start_soon(pool.run, b"", [operation])
            await anyio.wait_all_tasks_blocked()
            print(*pids, flush=True)
            await anyio.sleep_forever()

anyio.run(main)
"""

WORK = {
    "idle": "[]",
    "asleep": "[Hang('sleep')] * 2",
    "spinning": "[Hang('spin')] * 2",
    "holding the GIL": "[Hang('hold_gil')] * 2",
}


def is_alive(pid: int) -> bool:
    """Whether there is such a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_no_worker_outlives_a_server_that_was_killed(work: str, stopped: bool) -> None:
    before = Surroundings.now()
    script = SERVER.replace("OPERATIONS", WORK[work])
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        assert len(pids) == 2
        if stopped:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        server.kill()
    deadline = time.monotonic() + 1.0
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a worker lives on one second after its server's death"
    before.assert_nothing_new()


def test_an_interrupted_server_ends_its_workers() -> None:
    script = SERVER.replace("OPERATIONS", WORK["asleep"])
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        os.killpg(server.pid, signal.SIGINT)
        _, errors = server.communicate(timeout=20)
    assert "KeyboardInterrupt" in errors
    assert not any(map(is_alive, pids))


async def test_nothing_is_left_after_a_hundred_small_pools_worth_of_work(anyio_backend: object) -> None:
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        async with anyio.create_task_group() as task_group:
            for _ in range(100):
                task_group.start_soon(pool.run, bytes(10_000), [Noop()])
        assert pool.statistics().completed == 100
