"""Cancellation of a call in every state of its task, on every loop: nothing is left, and other tasks are not affected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from offloop import Pool
from offloop.testing.faults import Allocate, Echo, FaultsPlugin, Hang, Inspect, Noop, Wait

pytestmark = [pytest.mark.anyio, pytest.mark.every_loop]


async def test_a_queued_task_leaves_at_once_and_never_starts(anyio_backend: object, tmp_path: Path) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool, anyio.create_task_group() as task_group:
        task_group.start_soon(pool.run, b"", [Wait(60)])
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05) as scope:
            await pool.run(b"abc", [Echo()], to=tmp_path / "never")
        assert scope.cancelled_caught
        statistics = pool.statistics()
        assert (statistics.running, statistics.waiting, statistics.cancelled) == (1, 0, 1)
        task_group.cancel_scope.cancel()
    assert list(tmp_path.iterdir()) == []


async def test_a_running_task_that_obeys_keeps_its_worker(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        worker = (await pool.run(b"", [Inspect()])).info.pid
        with anyio.move_on_after(0.05) as scope:
            await pool.run(b"abc" * 10_000, [Wait(60)])
        assert scope.cancelled_caught
        assert sum(pool.statistics().leases.values()) <= 1, "but for what an idle worker begins with"
        assert (await pool.run(b"", [Inspect()])).info.pid == worker


@pytest.mark.parametrize("how", ["sleep", "hold_gil"])
async def test_a_running_task_that_does_not_obey_loses_its_worker(anyio_backend: object, how: Any) -> None:
    async with Pool(1, plugins=[FaultsPlugin], grace=0.1) as pool:
        with anyio.move_on_after(0.05) as scope:
            await pool.run(b"abc" * 10_000, [Hang(how)])
        assert scope.cancelled_caught
        assert pool.statistics().leases["task"] == 0, "run returned only when its memory was back"
        assert bytes(await pool.run(b"abc", [Echo()])) == b"abc"
        assert pool.statistics().cancelled == 1


async def test_a_cancelled_task_that_waits_for_memory_leaves_the_queue(anyio_backend: object) -> None:
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="8MiB") as pool:
        held = pool.buffer(5_000_000)
        await held.ready()
        with anyio.move_on_after(0.05) as scope:
            await pool.run(bytearray(5_000_000), [Noop()])  # `bytes` wait for no memory
        assert scope.cancelled_caught
        assert (await pool.run(bytes(100), [Echo()])).nbytes == 100, "no task waits behind a cancelled one"
        del held
    assert pool.statistics().cancelled == 1


@pytest.mark.parametrize("step", range(12))
async def test_a_cancellation_in_each_loop_iteration_loses_nothing(anyio_backend: object, step: int) -> None:
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="64MiB") as pool:
        for source in (b"", bytes(100), bytes(2_000_000), Path(__file__), pool.buffer(3_000_000)):
            scopes: list[anyio.CancelScope] = []

            async def submit(source: object, scopes: list[anyio.CancelScope] = scopes) -> None:
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    await pool.run(source, [Wait(0.001), Allocate(600_000)])

            async with anyio.create_task_group() as task_group:
                task_group.start_soon(submit, source)
                for _ in range(step):
                    await anyio.lowlevel.checkpoint()
                for scope in scopes:
                    scope.cancel()
        statistics = pool.statistics()
        assert statistics.submitted == statistics.completed + statistics.cancelled
        assert (statistics.leases["task"], statistics.leases["worker"], statistics.leases["caller"]) == (0, 0, 0)
    assert pool.statistics().memory_used_bytes == 0


async def test_cancelling_many_at_once_leaves_the_others_alone(pool: Pool) -> None:
    echoed: list[int] = []

    async def echo(number: int) -> None:
        await pool.run(b"%d" % number, [Wait(0.001), Echo()])
        echoed.append(number)

    async with anyio.create_task_group() as stay, anyio.create_task_group() as leave:
        for number in range(100):
            (stay if number % 2 else leave).start_soon(echo, number)
        await anyio.wait_all_tasks_blocked()
        leave.cancel_scope.cancel()
    assert {number for number in echoed if number % 2} == set(range(1, 100, 2))
