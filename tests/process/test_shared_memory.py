"""Shared-memory segments have no names, need no helper process, and keep only the needed addresses and descriptors."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading

import anyio
import pytest
from mount_namespace import run_with_shared_memory_of, skip_without_mount_namespaces
from own_background import background

from offloop import Pool, Result
from offloop.core.model.blocks import Span
from offloop.core.model.commands import ReleasePages
from offloop.runtime.memory import memory_files, segments
from offloop.runtime.memory.page_manager import PageManager
from offloop.testing.faults import Echo, Inspect

MIB = 1024 * 1024

WATCHES_DEV_SHM = """
import ctypes, os
import anyio
from multiprocessing import resource_tracker
from offloop import Pool
from offloop.testing.faults import Echo, FaultsPlugin

IN_CREATE, IN_MOVED_TO = 0x100, 0x80
libc = ctypes.CDLL(None)
watch = libc.inotify_init1(os.O_NONBLOCK)
libc.inotify_add_watch(watch, b"/dev/shm", IN_CREATE | IN_MOVED_TO)

async def main():
    async with Pool(1, plugins=[FaultsPlugin], memory_limit="16MiB") as pool:
        print(bytes(await pool.run(b"abc", [Echo()])))

anyio.run(main)
try:
    print("names:", os.read(watch, 4096))
except BlockingIOError:
    print("no name was ever made")
print("resource tracker:", resource_tracker._resource_tracker._pid)
"""


def test_a_pool_makes_no_name_in_dev_shm_at_any_moment_and_starts_no_resource_tracker() -> None:
    skip_without_mount_namespaces()
    done = run_with_shared_memory_of("64m", WATCHES_DEV_SHM)
    assert done.stdout.splitlines() == ["b'abc'", "no name was ever made", "resource tracker: None"], done.stderr


def test_where_files_need_a_name_it_is_gone_at_once() -> None:
    descriptor = memory_files._create_and_unlink()
    try:
        assert os.fstat(descriptor).st_nlink == 0
        assert os.write(descriptor, b"abc") == 3
    finally:
        os.close(descriptor)


@pytest.mark.anyio
async def test_a_result_of_a_dead_worker_keeps_its_own_pages_and_no_descriptor(pool_of_one: Pool) -> None:
    descriptors, addresses = len(os.listdir("/proc/self/fd")), addresses_nbytes()
    held = list[Result]()
    for number in range(4):
        held.append(await pool_of_one.run(bytes([number]) * 5_000, [Echo()]))
        await kill_the_worker_of(pool_of_one)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert addresses_nbytes() - addresses < 64 * MIB, "an outbox has as many addresses as the limit of 256 MiB"
    assert [bytes(result) for result in held] == [bytes([number]) * 5_000 for number in range(4)]
    used = pool_of_one.statistics().memory_used_bytes
    del held
    assert pool_of_one.statistics().memory_used_bytes < used


async def kill_the_worker_of(pool: Pool) -> None:
    starts = pool.statistics().worker_starts
    os.kill((await pool.run(b"", [Inspect()])).info.pid, signal.SIGKILL)
    with anyio.fail_after(20):
        while pool.statistics().worker_starts == starts or pool.statistics().workers != {"idle": 1}:
            await anyio.lowlevel.checkpoint()


def addresses_nbytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * mmap.PAGESIZE


def test_exported_pages_outlive_their_mapping_and_are_unmapped_one_by_one() -> None:
    page = mmap.PAGESIZE
    descriptor = memory_files.create_shared_file()
    os.ftruncate(descriptor, 64 * MIB)
    before = addresses_nbytes()
    mapping = segments.Mapping(descriptor, 64 * MIB)
    early, first, second = (mapping.export(start * page, page) for start in (0, 1, 9))
    mapping.view(page, 2)[:] = b"ab"
    del early
    mapping.withdraw(0, page)
    mapping.close()
    assert addresses_nbytes() - before < MIB
    assert bytes(memoryview(first)[:2]) == b"ab"
    assert os.fstat(descriptor).st_blocks == page // 512
    del first
    mapping.withdraw(page, page)
    assert os.fstat(descriptor).st_blocks == 0, "the pages are gone although the file is still there"
    memoryview(second).cast("B")[0] = 1
    os.close(descriptor)
    del second
    mapping.withdraw(9 * page, page)


def test_two_threads_leave_the_page_managers_count_exact() -> None:
    page_manager = PageManager({}, background(), lambda: None)
    move = ReleasePages((Span(9, 0, 4096),))
    done = threading.Event()

    def work() -> None:
        while not done.is_set() or page_manager.waiting:
            page_manager.work()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(50_000):
            page_manager.enqueue(move)
        done.set()
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert page_manager._queued_nbytes == 0
