"""An idle worker returns the memory that its tasks have freed to the system."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from memory_plugin import Fragment, MemoryPlugin

from offloop import Pool

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


def private_bytes(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


async def test_small_blocks_below_one_that_is_kept_go_back_while_the_worker_is_idle(anyio_backend: object) -> None:
    async with Pool(1, plugins=[MemoryPlugin], memory_limit="512MiB") as pool:
        pid = (await pool.run(b"", [Fragment(0)])).info.pid
        before = private_bytes(pid)
        await pool.run(b"", [Fragment(48 * MIB)])
        assert private_bytes(pid) > before + 40 * MIB, "malloc keeps it at first, because a block above it is in use"
        with anyio.fail_after(20):
            while private_bytes(pid) > before + 8 * MIB:
                await anyio.sleep(0.02)
        assert (await pool.run(b"", [Fragment(MIB)])).info.pid == pid, "it works on"


async def test_a_large_block_goes_back_at_once_however_often_it_was_freed(anyio_backend: object) -> None:
    async with Pool(1, plugins=[MemoryPlugin], memory_limit="512MiB") as pool:
        pid = (await pool.run(b"", [Fragment(0)])).info.pid
        before = private_bytes(pid)
        for _ in range(5):
            await pool.run(b"", [Fragment(24 * MIB, piece_nbytes=4 * MIB)])
        assert private_bytes(pid) < before + 8 * MIB
