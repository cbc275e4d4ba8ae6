"""Sources that block, vanish or have an odd memory layout: each is read in a thread, or refused with a typed error."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

from offloop import InvalidTask, MemoryLimitExceeded, Pool
from offloop.testing.faults import Echo, Noop

pytestmark = pytest.mark.anyio


async def test_special_files_are_refused_at_once_by_run_and_by_probe(pool_of_one: Pool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path, Path("/proc/self/status")):
        with anyio.fail_after(5):
            for call in (pool_of_one.probe(path), pool_of_one.run(path, [Echo()])):
                with pytest.raises(InvalidTask, match=r"not a regular file|no size"):
                    await call


async def test_a_str_is_no_path(pool_of_one: Pool) -> None:
    for call in (pool_of_one.probe("/etc/passwd"), pool_of_one.run("/etc/passwd", [Echo()])):
        with pytest.raises(InvalidTask, match=r"pathlib\.Path"):
            await call


@pytest.mark.every_loop
async def test_a_caller_that_waits_for_a_thread_leaves_when_it_is_cancelled(pool_of_one: Pool, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"FAULTS!\n" + bytes(1 << 20))
    supervisor: Any = pool_of_one._supervisor
    go_on, busy = threading.Event(), list[threading.Event]()

    def stand_still() -> None:
        begun.set()
        go_on.wait(20)

    async with anyio.create_task_group() as task_group:
        for limiter in (supervisor.background.file_threads, supervisor.background.source_threads):
            for _ in range(8):
                busy.append(begun := threading.Event())
                task_group.start_soon(lambda limiter=limiter: supervisor.background.run_in_thread(stand_still, limiter=limiter))
                await anyio.to_thread.run_sync(begun.wait)
        for source in (path, bytes(1 << 20), np.zeros((900, 900), "u1")[:, ::2]):
            for _ in range(2):  # the second is cancelled while it runs no function any more
                with anyio.move_on_after(0.05) as scope, anyio.fail_after(5):
                    await pool_of_one.run(source, [Noop()])
                assert scope.cancelled_caught
        with anyio.move_on_after(0.05) as scope:
            await pool_of_one.probe(path)
        assert scope.cancelled_caught
        go_on.set()
    assert (await pool_of_one.run(path, [Echo()])).nbytes == path.stat().st_size
    assert pool_of_one.statistics().leases["caller"] == 0


@pytest.mark.every_loop
async def test_files_that_make_their_readers_wait_do_not_hold_up_sources_in_memory(pool_of_one: Pool) -> None:
    supervisor: Any = pool_of_one._supervisor
    go_on = threading.Event()
    async with anyio.create_task_group() as task_group:
        for _ in range(9):
            task_group.start_soon(
                lambda: supervisor.background.run_in_thread(lambda: go_on.wait(20), limiter=supervisor.background.file_threads)
            )
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(10):
            assert (await pool_of_one.run(bytes(2 << 20), [Echo()])).nbytes == 2 << 20
        go_on.set()


@pytest.mark.parametrize("dtype", ["u1", "<f4"])
async def test_arrays_of_any_layout_come_back_in_order(pool_of_one: Pool, dtype: str) -> None:
    whole = np.arange(400 * 300 * 3).astype(dtype).reshape(400, 300, 3)
    for view in (
        whole[:, 8:-8],
        whole.transpose(1, 0, 2),
        whole[..., ::-1],
        whole[::2, ::2],
        np.broadcast_to(whole[:1], whole.shape),
    ):
        assert bytes(await pool_of_one.run(view, [Echo()])) == view.tobytes()


async def test_strided_bytes_and_chunks_come_back_in_order(pool_of_one: Pool) -> None:
    data = bytes(range(256)) * 5000
    assert bytes(await pool_of_one.run(memoryview(data)[::-3], [Echo()])) == data[::-3]

    async def chunks() -> AsyncIterator[Any]:
        yield memoryview(data)[::-3]
        yield memoryview(data)[:10:2]

    buffer = await pool_of_one.receive(chunks())
    assert bytes(await pool_of_one.run(buffer, [Echo()])) == data[::-3] + data[:10:2]


async def test_a_large_strided_array_is_refused_before_it_is_copied(pool_of_one: Pool) -> None:
    endless = np.broadcast_to(np.uint8(1), (1 << 40,))  # a copy would not fit into any memory
    with anyio.fail_after(5), pytest.raises(MemoryLimitExceeded):
        await pool_of_one.run(endless, [Noop()])


class Copying:
    """As Pillow's `Image`: its array interface makes a copy each time."""

    threads: set[int]

    def __init__(self) -> None:
        self.threads = set()

    @property
    def __array_interface__(self) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        return {"shape": (1, 2, 3), "typestr": "|u1", "data": b"123456", "version": 3}


async def test_an_array_interface_that_copies_is_asked_in_a_thread(pool_of_one: Pool) -> None:
    image = Copying()
    assert bytes(await pool_of_one.run(image, [Echo()])) == b"123456"
    assert len(image.threads) == 1
    assert threading.get_ident() not in image.threads


def truncated(path: Path, *, array: bool) -> Any:
    """A mapped file of which only the first page is left."""
    path.write_bytes(b"\1" * 3_000_000)
    with path.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    os.truncate(path, 4096)
    return np.frombuffer(mapped, "u1").reshape(1000, 1000, 3) if array else mapped


async def test_a_truncated_mapping_is_an_invalid_task_in_every_shape(pool_of_one: Pool, tmp_path: Path) -> None:
    for _ in range(3):  # later copies find pages that were mapped before
        await pool_of_one.run(bytes(3_000_000), [Noop()])
    mapped, array = truncated(tmp_path / "bytes", array=False), truncated(tmp_path / "array", array=True)

    async def chunks() -> AsyncIterator[Any]:
        yield mapped

    views = (
        mapped,
        memoryview(mapped)[4096:8192],
        memoryview(mapped)[::2],
        array,
        array[:, ::2],
        array[..., ::-1],
        array[:2, 600:],
    )
    for source in views:
        with pytest.raises(InvalidTask, match="mapped file that was truncated"):
            await pool_of_one.run(source, [Noop()])
    with pytest.raises(InvalidTask, match="mapped file that was truncated"):
        await pool_of_one.receive(chunks())
    with pytest.raises(InvalidTask, match="mapped file that was truncated"):
        await pool_of_one.probe(memoryview(mapped)[4096:])
    assert (await pool_of_one.run(memoryview(mapped)[:4096], [Echo()])).nbytes == 4096


def test_the_server_imports_no_numpy_for_a_strided_source() -> None:
    script = """
import sys, anyio
from offloop import Pool
from offloop.testing.faults import Echo, FaultsPlugin

async def main():
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        data = bytes(range(256)) * 5000
        assert bytes(await pool.run(memoryview(data)[::-2], [Echo()])) == data[::-2]

anyio.run(main)
print("numpy" in sys.modules)
"""
    assert (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30).stdout
        == "False\n"
    )
