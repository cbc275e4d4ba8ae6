"""Too few descriptors, processes or threads while a pool works: it goes on, and recovers when there is more."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

SERVER = """
import os, resource, signal, sys, threading
import anyio, anyio.to_thread
from pathlib import Path
from offloop import Pool, WorkerDied
from offloop.testing.faults import *

LIMIT = getattr(resource, sys.argv[2])
BEFORE = resource.getrlimit(LIMIT)

async def until(condition):
    with anyio.fail_after(20):
        while not condition():
            await anyio.sleep(0.01)

async def kill_one(pool):
    os.kill((await pool.run(b"", [Inspect()])).info.pid, signal.SIGKILL)

async def main():
    async with Pool(2, plugins=[FaultsPlugin], memory_limit="64MiB", grace=0.1) as pool:
        try:
            await body(pool)
        finally:
            resource.setrlimit(LIMIT, BEFORE)

BODY

backend = "trio" if sys.argv[1] == "trio" else "asyncio"
anyio.run(main, backend=backend, backend_options={"use_uvloop": sys.argv[1] == "uvloop"} if backend == "asyncio" else {})
"""

NO_MORE_WORKERS = """
async def body(pool):
    descriptors = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(LIMIT, (3, BEFORE[1]))
    await kill_one(pool)
    await until(lambda: pool.statistics().worker_starts >= 5)
    print(sorted(pool.statistics().workers.items()))
    print((await pool.run(bytes(1_000_000), [Echo()])).nbytes)
    await kill_one(pool)
    try:
        await pool.run(b"abc", [Echo()])
    except WorkerDied as error:
        print(error)
    print(sorted(pool.statistics().workers.items()))
    resource.setrlimit(LIMIT, BEFORE)
    await until(lambda: pool.statistics().workers == {"idle": 2})
    print((await pool.run(bytes(5_000_000), [Echo()])).nbytes)
    print(len(os.listdir("/proc/self/fd")) - descriptors)
"""

NO_MORE_THREADS = """
async def body(pool):
    resource.setrlimit(LIMIT, (1, BEFORE[1]))
    enough = threading.Event()
    limiter = anyio.CapacityLimiter(1000)
    failed = []
    async def occupy():
        try:
            await anyio.to_thread.run_sync(enough.wait, limiter=limiter)
        except RuntimeError as error:
            failed.append(error)
    async with anyio.create_task_group() as task_group:
        while not failed:  # the threads that idle in the loop's store are all in use
            task_group.start_soon(occupy)
            await anyio.wait_all_tasks_blocked()
        try:
            print((await pool.run(bytes(3_000_000), [Echo()])).nbytes)
            print((await pool.run(Path(sys.executable), [Noop()])).nbytes)
            await kill_one(pool)
            await until(lambda: pool.statistics().worker_starts >= 4)
            print(sorted(pool.statistics().workers.items()))
            print((await pool.run(b"abc", [Echo()])).nbytes)
        finally:
            resource.setrlimit(LIMIT, BEFORE)
            enough.set()
    await until(lambda: pool.statistics().workers == {"idle": 2})
    print((await pool.run(bytes(5_000_000), [Echo()])).nbytes)
"""

AS_ANOTHER_USER = [  # root is exempt from the limit; the capability lets the other read an interpreter in root's directory
    *("setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
]


def said_by_server(loop: str, limit: str, body: str, prefix: list[str]) -> list[str]:
    """What a server printed whose body got a pool."""
    command = [*prefix, sys.executable, "-c", SERVER.replace("BODY", body), loop, limit]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def as_another_user() -> list[str]:
    """How to start a process whose user has no other processes."""
    command = [*AS_ANOTHER_USER, sys.executable, "-c", "import offloop"]
    if shutil.which("setpriv") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no process of another user can be started here")
    return AS_ANOTHER_USER


def check_recovery(said: list[str], reason: str) -> None:
    one_left, echoed, refused, none_left, at_last = said[:5]
    assert one_left == "[('idle', 1), ('restarting', 1)]"
    assert echoed == "1000000", "the worker that was left works on"
    assert "could not be started" in refused
    assert reason in refused
    assert none_left == "[('restarting', 2)]"
    assert at_last == "5000000"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_without_descriptors_no_worker_is_started_until_there_are_some(loop: str) -> None:
    said = said_by_server(loop, "RLIMIT_NOFILE", NO_MORE_WORKERS, [])
    check_recovery(said, "Too many open files")
    assert said[2].endswith("this process may have 3 descriptors (RLIMIT_NOFILE) during its start")
    assert said[5] == "0", "each start that failed gave its descriptors back"


@pytest.mark.parametrize("loop", ["uvloop", "trio"])
def test_when_fork_fails_no_worker_is_started_until_it_works_again(loop: str, as_another_user: list[str]) -> None:
    said = said_by_server(loop, "RLIMIT_NPROC", NO_MORE_WORKERS, as_another_user)
    check_recovery(said, "this user may have 3 processes and threads (RLIMIT_NPROC)")
    assert said[5] == "0"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_without_threads_tasks_go_on_and_workers_wait(loop: str, as_another_user: list[str]) -> None:
    said = said_by_server(loop, "RLIMIT_NPROC", NO_MORE_THREADS, as_another_user)
    assert said == ["3000000", "0", "[('idle', 1), ('restarting', 1)]", "3", "5000000"]
