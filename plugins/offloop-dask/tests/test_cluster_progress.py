"""Progress of a task on a cluster: what it waits for, at a bounded rate, and the newest state at the end of a burst."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from cluster_pools import pool_of, running_on, until

from offloop import Progress
from offloop.testing.faults import HoldOn
from offloop_dask.client.progress import ProgressCalls
from offloop_dask.node.progress_sender import ProgressSender
from offloop_dask.wire.messages import Progressed

from .conftest import Cluster

pytestmark = pytest.mark.anyio


async def test_a_task_without_a_node_waits_for_a_worker(cluster: Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    seen: list[Progress] = []
    async with pool_of(cluster) as pool:
        await until(lambda: len(pool.statistics().nodes) == 2)
        placed = [asyncio.ensure_future(pool.run(b"", [HoldOn(str(gate))])) for _ in range(4)]  # all that the nodes take
        await until(running_on(pool, 2))
        waiting = asyncio.ensure_future(pool.run(b"", [HoldOn(str(gate))], on_progress=seen.append))
        await until(lambda: seen)
        assert (seen[0].waits_for, seen[0].fraction) == ("worker", 0.0)
        assert sum(node.own for node in pool.statistics().nodes.values()) == 4
        gate.touch()
        await asyncio.gather(*placed, waiting)
    assert (seen[-1].waits_for, seen[-1].fraction) == (None, 1.0)


def progress(fraction: float, waits_for: str | None = None) -> Progress:
    return Progress(fraction, "faults", "Wait", None, waits_for, 2.5)  # pyright: ignore[reportArgumentType] (one of its words)


async def test_a_burst_is_two_messages_and_the_second_has_the_newest_state() -> None:
    sent: list[Progressed] = []
    came = asyncio.Event()

    async def send(message: msgspec.Struct) -> None:
        assert isinstance(message, Progressed)
        sent.append(message)
        came.set()

    sender = ProgressSender(7, send)
    for number in range(10):
        sender.update(progress(number / 10, "worker" if number < 9 else None))
        if not number:
            await came.wait()
            came.clear()
    sender.update(progress(1.0))  # the end of the task is another message
    await came.wait()
    sender.close()
    assert [(message.fraction, message.waits_for, message.cost_s) for message in sent] == [
        (0.0, "worker", 2.5),
        (0.9, None, 2.5),
    ]


async def test_a_slow_callback_gets_the_newest_progress_after_its_last_call() -> None:
    calls: list[tuple[float, str | None]] = []
    goes_on = asyncio.Event()

    async def callback(progress: Progress) -> None:
        calls.append((progress.fraction, progress.waits_for))
        await goes_on.wait()

    told = ProgressCalls(callback)
    told.update(progress(0.0, "memory"))
    told.update(progress(0.1))
    told.update(progress(0.2))
    while not calls:
        await asyncio.sleep(0)
    goes_on.set()
    while len(calls) < 2:
        await asyncio.sleep(0)
    told.update(progress(0.2))  # nothing has changed
    await told.finish()
    assert calls == [(0.0, "memory"), (0.2, None), (1.0, None)]
