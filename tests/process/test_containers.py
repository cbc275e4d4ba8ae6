"""Containers: the limits of a cgroup, the kernel's memory killer, process 1, a read-only root, no capability, SIGTERM.

The cgroups and namespaces are real. A test is skipped where they cannot be made.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from container_world import CONTAINER, cgroup, container_command, run_in_cgroup, skip_without_containers

MIB = 1 << 20
PHOTO = Path(__file__).parents[2] / "docs" / "photos" / "coffee.webp"


def memory(nbytes: int) -> dict[str, str]:
    return {"memory.max": str(nbytes), "memory.limit_in_bytes": str(nbytes)}


def output_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


LIMITS = """
import anyio
from offloop import Pool
from offloop.system import available_cpus, available_memory
from offloop.testing.faults import FaultsPlugin

async def main():
    async with Pool(plugins=[FaultsPlugin]) as pool:
        numbers = pool.statistics()
        print(numbers.concurrency, numbers.memory_limit_bytes)
    print(available_cpus().source, "|", available_memory().source)

anyio.run(main)
"""


def test_half_of_the_memory_of_the_cgroup_is_the_default_limit() -> None:
    with cgroup("memory", memory(400 * MIB)) as directory:
        numbers, sources = output_of(run_in_cgroup(directory, LIMITS))
    assert int(numbers.split()[1]) == 200 * MIB
    assert str(directory) in sources.partition("|")[2]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU only")
def test_the_quota_of_the_cgroup_is_the_default_number_of_workers() -> None:
    with cgroup("cpu", {"cpu.max": "100000 100000", "cpu.cfs_quota_us": "100000"}) as directory:
        numbers, sources = output_of(run_in_cgroup(directory, LIMITS))
    assert numbers.split()[0] == "1"
    assert f"quota of 1 ({directory})" in sources


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU only")
def test_the_affinity_is_the_default_number_of_workers() -> None:
    pinned = f"import os; os.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\n" + LIMITS
    numbers, sources = output_of(
        subprocess.run([sys.executable, "-c", pinned], capture_output=True, text=True, timeout=50, check=False)
    )
    assert numbers.split()[0] == "1"
    assert sources.startswith("affinity")


TAKES_TOO_MUCH = """
import anyio
from offloop import OffloopError, Pool
from offloop.testing.faults import Echo, FaultsPlugin, Grow

async def main():
    async with Pool(1, plugins=[FaultsPlugin], SETTINGS) as pool:
        try:
            await pool.run(b"", [Grow(700)])
        except OffloopError as error:
            print(type(error).__name__, getattr(error, "code", None), getattr(error, "signal", None))
        print(bytes(await pool.run(b"goes on", [Echo()])).decode(), pool.statistics().worker_died)

anyio.run(main)
"""


def killed_processes(directory: Path) -> int:
    """Number of processes that the kernel has killed, because the cgroup had no memory left."""
    for name in ("memory.events", "memory.oom_control"):
        if (directory / name).exists():
            return int(dict(line.split() for line in (directory / name).read_text().splitlines())["oom_kill"])
    pytest.fail("the cgroup does not count")


def test_by_default_a_task_reaches_its_limit_before_the_kernel_kills_a_process_of_the_container() -> None:
    with cgroup("memory", memory(400 * MIB)) as directory:
        said = output_of(run_in_cgroup(directory, TAKES_TOO_MUCH.replace(", SETTINGS", "")))
        killed = killed_processes(directory)
    assert (said, killed) == (["TaskFailed memory_limit None", "goes on 0"], 0)


def test_with_a_limit_that_the_container_does_not_have_the_kernel_kills_a_worker_and_the_server_goes_on() -> None:
    with cgroup("memory", memory(400 * MIB)) as directory:
        said = output_of(run_in_cgroup(directory, TAKES_TOO_MUCH.replace("SETTINGS", 'memory_limit="4GiB"')))
        killed = killed_processes(directory)
    assert (said, killed) == (["WorkerDied None 9", "goes on 1"], 1)


CONVERTS = """
import json, os, sys
from pathlib import Path
import anyio
from offloop import Pool
from offloop_vips import Resize, Webp

async def main():
    async with Pool(1) as pool:
        result = await pool.run(Path(sys.argv[1]), [Resize(100), Webp()])
        capabilities = next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line)
        print(json.dumps({
            "pid": os.getpid(),
            "width": result.info.width,
            "is_read_only": bool(os.statvfs("/").f_flag & os.ST_RDONLY),
            "capabilities": int(capabilities.split()[1], 16),
            "shared": pool.statistics().shared_memory_limit_bytes,
            "layers": pool.sandbox.layers,
        }))

anyio.run(main)
"""


def test_as_process_1_with_a_read_only_root_and_no_capability_a_picture_is_converted_in_the_whole_sandbox() -> None:
    skip_without_containers()
    outside, inside = (
        json.loads(output_of(subprocess.run(command, capture_output=True, text=True, timeout=50, check=False))[0])
        for command in ([sys.executable, "-c", CONVERTS, str(PHOTO)], container_command(CONVERTS, str(PHOTO)))
    )
    assert (inside["pid"], inside["width"], inside["is_read_only"], inside["capabilities"]) == (1, 100, True, 0)
    assert inside["shared"] <= 64 * MIB < outside["shared"]
    assert inside["layers"] == outside["layers"]


def test_the_doctor_advises_a_larger_dev_shm() -> None:
    skip_without_containers()
    command = [*CONTAINER, sys.executable, "-m", "offloop.cli", "doctor", "--json"]
    report: Any = json.loads("\n".join(output_of(subprocess.run(command, capture_output=True, text=True, check=False))))
    assert report["usable"]
    assert [text for text in report["advice"] if "--shm-size" in text]


LEAVES_PROCESSES = """
import json, os
import anyio
from daemon_plugin import DaemonPlugin, StartDaemons
from offloop import Pool, WorkerDied
from offloop.testing.faults import Exit, FaultsPlugin, LeaveChild

def states():
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with open(f"/proc/{pid}/stat") as file:
            name, _, fields = file.read().partition("(")[2].rpartition(")")
        found.append((name, fields.split()[0]))
    return found

async def main():
    async with Pool(1, plugins=[DaemonPlugin, FaultsPlugin], memory_limit="256MiB", sandbox="off") as pool:
        for _ in range(3):
            await pool.run(b"", [LeaveChild()])
            await pool.run(b"", [StartDaemons()])
            try:
                await pool.run(b"", [Exit(3)])
            except WorkerDied as error:
                print(error.exit_code)
    print(json.dumps([os.getpid(), states()]))

anyio.run(main)
"""


def test_process_1_reaps_its_workers_and_the_processes_that_they_leave_behind() -> None:
    skip_without_containers()
    command = container_command(LEAVES_PROCESSES)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    said = output_of(subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env=environment))
    assert said[:3] == ["3"] * 3
    pid, states = json.loads(said[3])
    assert (pid, [state for _, state in states]) == (1, ["R"]), states


SERVES = """
import os
from contextlib import asynccontextmanager
import uvicorn
from starlette.applications import Starlette
from offloop import Pool
from offloop.testing.faults import Echo, FaultsPlugin

@asynccontextmanager
async def lifespan(app):
    async with Pool(2, plugins=[FaultsPlugin]) as pool:
        await pool.run(b"abc", [Echo()])
        print("ready", os.getpid(), flush=True)
        yield
    print("closed", [pid for pid in os.listdir("/proc") if pid.isdigit()], flush=True)

uvicorn.run(Starlette(lifespan=lifespan), port=0, log_level="warning")
"""


def test_sigterm_ends_a_server_that_is_process_1_in_order() -> None:
    skip_without_containers()
    with subprocess.Popen(container_command(SERVES), stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready 1\n"
        (server,) = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        os.kill(int(server), signal.SIGTERM)
        assert started.stdout.read() == "closed ['1']\n"
    assert started.returncode in {0, 128 + signal.SIGTERM, -signal.SIGTERM}
