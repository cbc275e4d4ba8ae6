"""`Pool(inline=True)`: tasks run in threads of the server's process, with the same results and errors, and it says so."""

from __future__ import annotations

import logging
import os
import threading

import anyio
import jobs
import pytest

from offloop import Pool, TaskFailed
from offloop.testing.faults import Echo, FaultsPlugin

pytestmark = pytest.mark.anyio


@pytest.mark.every_loop
async def test_functions_and_pipelines_run_in_this_process(anyio_backend: object, caplog: pytest.LogCaptureFixture) -> None:
    threads = set(threading.enumerate())
    async with Pool(1, inline=True, plugins=["functions", FaultsPlugin], memory_limit="256MiB") as pool:
        assert "without isolation, time limits and limits of memory" in caplog.text
        assert await pool.call(jobs.pid) == os.getpid()
        assert await pool.call(jobs.echo_bytes, bytes(100_000)) == bytes(100_000)
        assert (await pool.call(jobs.filled, 100_000)).sum() == 700_000
        assert bytes(await pool.run(b"bytes", [Echo()])) == b"bytes"
        with pytest.raises(TaskFailed, match="ValueError: text"):
            await pool.call(jobs.fail, "text")
        async with pool.stream_call(jobs.count_to, 10) as numbers:
            assert [number async for number in numbers] == list(range(10))
        with anyio.move_on_after(0.2):
            await pool.call(jobs.watch, timeout=0.001)
            pytest.fail("a time limit ended it")
        assert await pool.call(jobs.echo_number, 1) == 1
    with anyio.fail_after(5):
        while any(thread.name.startswith("offloop-") for thread in set(threading.enumerate()) - threads):
            await anyio.lowlevel.checkpoint()


async def test_an_isolated_pool_says_nothing(anyio_backend: object, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "offloop.pool"):
        async with Pool(1, plugins=[FaultsPlugin]):
            assert caplog.text == ""
