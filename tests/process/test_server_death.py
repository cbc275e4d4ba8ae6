"""A server's own signals and children do not confuse its pool, and the server's death ends all workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SERVER = """
import json, os, signal, sys, threading
import anyio
from offloop import Pool, WorkerDied
from offloop.testing.faults import *

BODY

backend = "trio" if sys.argv[1] == "trio" else "asyncio"
anyio.run(main, backend=backend, backend_options={"use_uvloop": sys.argv[1] == "uvloop"} if backend == "asyncio" else {})
"""

ENCODES = """
from pathlib import Path
from offloop_vips import Avif, Resize

def ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])

async def main():
    async with Pool(1, plugins=["vips", FaultsPlugin], timeout=None) as pool:
        pid = (await pool.run(b"", [Inspect()])).info.pid
        before = ticks(pid)
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(pool.run, Path(sys.argv[2]), [Resize(4000, 4000, fit="fill"), Avif(quality=90)])
            while ticks(pid) < before + 50:  # half a second of work, far more than it takes to read the picture
                await anyio.sleep(0.01)
            print(json.dumps([pid]), flush=True)
            await anyio.sleep_forever()
"""

LEAVES_CHILDREN = """
async def main():
    async with Pool(1, plugins=[FaultsPlugin], sandbox="off") as pool:
        pids = [(await pool.run(b"", [LeaveChild()])).info.pid for _ in range(3)]
        pids.append((await pool.run(b"", [Inspect()])).info.pid)
        async with anyio.create_task_group() as task_group:
            for operation in OPERATIONS:
                task_group.start_soon(pool.run, b"", [operation])
            await anyio.wait_all_tasks_blocked()
            print(json.dumps(pids), flush=True)
            await anyio.sleep_forever()
"""

LOSES_EXIT_CODES = """
async def main():
    PREPARE
    async with Pool(2, plugins=[FaultsPlugin], grace=0.1, sandbox="off") as pool:
        died = []
        child = None
        for operation in (Exit(3), Kill(signal.SIGSEGV), Hang("hold_gil")):
            child = (await pool.run(b"", [LeaveChild()])).info.pid
            try:
                await pool.run(b"", [operation], timeout=0.2)
            except (WorkerDied, TimeoutError) as error:
                died.append([type(error).__name__, getattr(error, "exit_code", None), str(error)])
        assert (await pool.run(b"abc", [Echo()])).nbytes == 3
        mask = (line for line in open(f"/proc/{(await pool.run(b'', [Inspect()])).info.pid}/status") if "SigIgn" in line)
        ignored = int(next(mask).split()[1], 16) >> (signal.SIGCHLD - 1) & 1
    print(json.dumps({"died": died, "ignored": ignored, "statistics": pool.statistics().workers}), flush=True)
    STOP
"""

WAYS_TO_LOSE_THEM = {
    "waiting for any child": (
        """stop = threading.Event()
    def wait():
        while not stop.is_set():
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                stop.wait(0.001)
    threading.Thread(target=wait, daemon=True).start()""",
        "stop.set()",
    ),
    "ignoring SIGCHLD": ("signal.signal(signal.SIGCHLD, signal.SIG_IGN)", ""),
}

DRAINS = """
async def main():
    interrupted = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    async with Pool(1, plugins=[FaultsPlugin]) as pool:
        pid = (await pool.run(b"", [Inspect()])).info.pid
        results = []
        async def submit():
            results.append(await pool.run(b"", [Wait(0.5), Inspect()]))
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(submit)
            await anyio.wait_all_tasks_blocked()
            print(json.dumps([pid]), flush=True)
            await anyio.to_thread.run_sync(interrupted.wait)
        assert results[0].info.pid == pid
        print(json.dumps(pool.statistics().worker_starts), flush=True)
"""


@contextmanager
def server(loop: str, body: str, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """A server in a session of its own."""
    command = [sys.executable, "-c", SERVER.replace("BODY", body), loop, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Whether there is such a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def kill_and_watch(process: subprocess.Popen[str], *, stopped: bool) -> None:
    """SIGKILL the server, once it has said which processes are there; one second later there must be none."""
    assert process.stdout is not None
    pids = json.loads(process.stdout.readline())
    if stopped:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert all(map(is_alive, pids))
    process.kill()
    deadline = time.monotonic() + 1.0
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, "a process lives on one second after the server's death"


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_a_worker_in_native_code_dies_with_its_server(stopped: bool) -> None:
    pytest.importorskip("offloop_vips")
    photo = Path(__file__).parents[2] / "docs" / "photos" / "astronaut.jpg"
    names = set(os.listdir("/dev/shm"))
    with server("asyncio", ENCODES, str(photo)) as process:
        kill_and_watch(process, stopped=stopped)
    assert not {name for name in set(os.listdir("/dev/shm")) - names if name.startswith("psm_")}


@pytest.mark.parametrize("operations", ["[]", "[Hang('hold_gil')]"], ids=["idle", "holding the GIL"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_what_a_worker_started_dies_with_the_server(operations: str, stopped: bool) -> None:
    with server("asyncio", LEAVES_CHILDREN.replace("OPERATIONS", operations)) as process:
        kill_and_watch(process, stopped=stopped)


@pytest.mark.parametrize("way", WAYS_TO_LOSE_THEM)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_a_death_whose_exit_code_somebody_else_took_is_a_death_all_the_same(loop: str, way: str) -> None:
    prepare, stop = WAYS_TO_LOSE_THEM[way]
    with server(loop, LOSES_EXIT_CODES.replace("PREPARE", prepare).replace("STOP", stop)) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    said = json.loads(output)
    assert [name for name, _, _ in said["died"]] == ["WorkerDied", "WorkerDied", "TaskTimeout"]
    codes = [code for _, code, _ in said["died"]]
    if way == "ignoring SIGCHLD":
        assert codes == [None] * 3
        assert all("something else in the server took its exit code" in text for _, _, text in said["died"][:2])
    else:
        assert codes in ([None] * 3, [3, None, None]), "who waits first gets it, and never a zero"
    assert said["statistics"] == {}
    assert said["ignored"] == 0, "what the server does with its children is not passed on"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_an_interrupt_from_the_terminal_lets_running_tasks_end(loop: str) -> None:
    with server(loop, DRAINS) as process:
        assert process.stdout is not None
        [pid] = json.loads(process.stdout.readline())
        os.killpg(process.pid, signal.SIGINT)
        os.kill(pid, signal.SIGINT)
        starts, _ = process.communicate(timeout=20)
    assert (process.returncode, starts) == (0, "1\n")
