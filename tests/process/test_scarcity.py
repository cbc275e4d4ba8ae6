"""Too little shared memory: a clear error with numbers or a wait that ends, and never SIGBUS."""

from __future__ import annotations

import pytest
from mount_namespace import run_with_shared_memory_of, skip_without_mount_namespaces

SCRIPT = """
import anyio
from offloop import MemoryLimitExceeded, Pool
from offloop.testing.faults import Allocate, Echo, FaultsPlugin

async def main():
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="256MiB") as pool:
        for source, operation in ((bytearray(20_000_000), Echo()), (b"", Allocate(20_000_000)), (b"", Allocate(20_000_000,
        100_000))):
            try:
                await pool.run(source, [operation])
            except MemoryLimitExceeded as error:
                print(error.asked_bytes, error.limit_bytes < 8 * 1024 * 1024)
        print((await pool.run(bytes(1_000_000), [Echo()])).nbytes)
        async with anyio.create_task_group() as task_group:
            for _ in range(40):
                task_group.start_soon(echo, pool)
        statistics = pool.statistics()
        print(statistics.completed, statistics.worker_starts)

async def echo(pool):
    assert (await pool.run(bytearray(1_500_000), [Echo()])).nbytes == 1_500_000

anyio.run(main)
"""


FILLED_BY_OTHERS = """
import os, signal
import anyio
from offloop import MemoryLimitExceeded, Pool
from offloop.testing.faults import Allocate, Echo, FaultsPlugin, Inspect, Noop

async def until(condition):
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)

async def main():
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="64MiB") as pool:
        await pool.run(bytearray(10_000_000), [Echo()])
        status = os.statvfs("/dev/shm")
        other = os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR)
        os.posix_fallocate(other, 0, status.f_bavail * status.f_frsize)
        print((await pool.run(bytearray(15_000_000), [Noop()])).nbytes, "with the pages that the pool has")
        for source, operation in ((bytearray(40_000_000), Echo()), (b"", Allocate(50_000_000))):
            try:
                await pool.run(source, [operation])
            except MemoryLimitExceeded as error:
                print(error.asked_bytes, error.limit_bytes < 30_000_000)
        os.kill((await pool.run(b"", [Inspect()])).info.pid, signal.SIGKILL)
        await until(lambda: pool.statistics().workers != {"idle": 2})
        await until(lambda: pool.statistics().workers == {"idle": 2})
        print((await pool.run(b"abc", [Echo()])).nbytes)
        os.close(other)
        print((await pool.run(bytes(25_000_000), [Echo()])).nbytes, (await pool.run(b"", [Allocate(50_000_000)])).nbytes)
        print(pool.statistics().worker_died, pool.statistics().worker_starts)

anyio.run(main)
"""

VERY_LITTLE = """
import anyio
from offloop import MemoryLimitExceeded, Pool
from offloop.testing.faults import Echo, FaultsPlugin

async def main():
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        for nbytes in (100, 8_000, 60_000, 8_000):
            try:
                print((await pool.run(bytearray(nbytes), [Echo()])).nbytes)
            except MemoryLimitExceeded as error:
                print(error)

anyio.run(main)
"""


@pytest.fixture(autouse=True)
def mount_namespaces() -> None:
    skip_without_mount_namespaces()


def test_a_small_dev_shm_refuses_what_cannot_fit_and_serves_the_rest_in_turn() -> None:
    done = run_with_shared_memory_of("8m", SCRIPT)
    assert done.returncode == 0, done.stderr
    refused, echoed, counts = done.stdout.splitlines()[:-2], done.stdout.splitlines()[-2], done.stdout.splitlines()[-1]
    assert refused[:2] == ["20000000 True"] * 2
    assert refused[2].endswith("True"), "growing output is refused at some power of two"
    assert echoed == "1000000"
    assert counts == "41 2", "no worker died of a bus error"


def test_the_default_memory_limit_respects_dev_shm() -> None:
    script = """
import anyio
from offloop import Pool
from offloop.testing.faults import FaultsPlugin, Echo

async def main():
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        await pool.run(b"abc", [Echo()])
        print(pool.statistics().shared_memory_limit_bytes)

anyio.run(main)
"""
    done = run_with_shared_memory_of("64m", script)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 64 * 1024 * 1024 * 9 // 10 // 4096 * 4096


def test_no_shared_memory_at_all_is_an_error_at_entry() -> None:
    done = run_with_shared_memory_of("4k,nr_inodes=1", "import anyio\nfrom offloop import Pool\nanyio.run(Pool(1).__aenter__)")
    assert done.returncode == 1
    assert "Error" in done.stderr.splitlines()[-1]


def test_memory_that_others_fill_is_refused_with_numbers_and_used_again_when_they_leave() -> None:
    done = run_with_shared_memory_of("64m", FILLED_BY_OTHERS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "0 with the pages that the pool has",
        "40000000 True",
        "50000000 True",
        "3",
        "25000000 50000000",
        "0 3",
    ]


def test_with_64_kilobytes_small_tasks_are_done_and_others_refused_with_numbers() -> None:
    done = run_with_shared_memory_of("64k", VERY_LITTLE)
    assert done.returncode == 0, done.stderr
    small, two_pages, refused, again = done.stdout.splitlines()
    assert (small, two_pages, again) == ("100", "8000", "8000")
    assert refused.endswith("enlarge /dev/shm (in Docker: --shm-size)")
    assert refused.startswith("60,000 bytes of shared memory were needed, but what is free of it, within what /dev/shm has, is")
