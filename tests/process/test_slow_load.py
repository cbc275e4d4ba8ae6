"""A worker that loads plugins for longer than the stall limit is not killed as a worker that does not read."""

from __future__ import annotations

import anyio
import pytest
from slow_load_plugin import Hold, SlowLoadPlugin

from offloop import Pool
from offloop.runtime.workers import connection

pytestmark = pytest.mark.anyio


async def test_a_task_larger_than_a_socket_holds_waits_for_the_load(
    anyio_backend: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "STALL_LIMIT_S", 0.3)
    pids: set[int] = set()
    async with Pool(2, plugins=[SlowLoadPlugin], memory_limit="256MiB") as pool:

        async def run(seconds: float, padding: str) -> None:
            pids.add((await pool.run(b"", [Hold(seconds, padding)])).info.pid)

        await run(0, "")  # has its plugin loaded ahead in the other worker from now on
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(run, 0.5, "")
            task_group.start_soon(run, 0.5, "x" * 1_000_000)
        statistics = pool.statistics()
    assert statistics.worker_crashes == 0
    assert len(pids) == 2
