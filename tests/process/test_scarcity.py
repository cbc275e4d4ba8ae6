"""Too little shared memory: a clear error with numbers or a wait that ends, and never SIGBUS."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

SCRIPT = """
import anyio
from offloop import MemoryLimitExceeded, Pool
from offloop.testing.faults import Allocate, Echo, FaultsPlugin

async def main():
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="256MiB") as pool:
        for source, operation in ((bytes(20_000_000), Echo()), (b"", Allocate(20_000_000)), (b"", Allocate(20_000_000,
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
    assert (await pool.run(bytes(1_500_000), [Echo()])).nbytes == 1_500_000

anyio.run(main)
"""


def run_with_shared_memory_of(size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a mount namespace of its own, whose /dev/shm is as small as that."""
    command = f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec {sys.executable} -c "$SCRIPT"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", command],
        env={"SCRIPT": script, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture(autouse=True)
def mount_namespaces() -> None:
    """They need privileges that not every machine gives."""
    if shutil.which("unshare") is None or run_with_shared_memory_of("1m", "").returncode != 0:
        pytest.skip("mount namespaces cannot be made here")


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
        print(pool.statistics().memory_limit_bytes)

anyio.run(main)
"""
    done = run_with_shared_memory_of("64m", script)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 64 * 1024 * 1024 * 9 // 10 // 4096 * 4096


def test_no_shared_memory_at_all_is_an_error_at_entry() -> None:
    done = run_with_shared_memory_of("4k,nr_inodes=1", "import anyio\nfrom offloop import Pool\nanyio.run(Pool(1).__aenter__)")
    assert done.returncode == 1
    assert "Error" in done.stderr.splitlines()[-1]
