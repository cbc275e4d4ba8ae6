"""A dask scheduler, nodes and an S3 server as subprocesses, for bench_cluster.py: pinned to CPUs, and with a share of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

__all__ = ["ClusterProcesses", "CpuShare", "cpu_seconds"]

_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 60.0
_PERIOD_US = 20_000  # of the quota of CPU time: short, so that a node does not stand still for long
_S3_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
with open(sys.argv[1] + ".new", "w") as file:
    file.write("http://%s:%s" % server.get_host_and_port())
import os
os.rename(sys.argv[1] + ".new", sys.argv[1])
sys.stdin.read()
"""


class CpuShare:
    """A control group whose processes get a share of one CPU. It is empty without such groups: see `is_available`."""

    def __init__(self, name: str, share: float) -> None:
        """`share`: seconds of CPU time for each second."""
        self.is_available = False
        quota = int(share * _PERIOD_US)
        settings: dict[str, dict[str, str]] = {
            "/sys/fs/cgroup/cpu": {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": str(quota)},
            "/sys/fs/cgroup": {"cpu.max": f"{quota} {_PERIOD_US}"},
        }
        for root, files in settings.items():
            self._group = Path(root) / f"bench-{os.getpid()}-{name}"
            with suppress(OSError):
                self._group.mkdir()
                for file, value in files.items():
                    (self._group / file).write_text(value)
                self.is_available = True
                return
            with suppress(OSError):
                self._group.rmdir()

    def enter(self) -> None:
        """Have this process in the group, and its children."""
        if self.is_available:
            (self._group / "cgroup.procs").write_text(str(os.getpid()))

    def close(self) -> None:
        """Remove the group. Its processes must have ended."""
        if self.is_available:
            deadline = monotonic() + 5
            while True:
                try:
                    self._group.rmdir()
                except OSError:
                    if monotonic() > deadline:
                        raise
                    sleep(0.05)
                else:
                    return


class ClusterProcesses:
    """A scheduler, nodes, and an S3 server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""

    def __enter__(self) -> Self:
        file = self._folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), "--no-dashboard", "--no-jupyter"]
        self._start("scheduler", ["-m", "distributed.cli.dask_scheduler", *options])
        self.address = json.loads(self._wait_for(file))["address"]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for name in reversed(tuple(self._processes)):
            self.stop(name)

    def start_node(self, name: str, cpu: int, share: CpuShare | None = None) -> None:
        """Start a node. It and its pool's workers run on one CPU, and have a share of it."""
        command = ["-m", "distributed.cli.dask_worker", self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
        command += ["--name", name, "--local-directory", str(self._folder / name)]
        self._start(name, command, {cpu}, share)

    def start_storage(self) -> str:
        """Start an S3 server (moto). Returns its address."""
        file = self._folder / "storage"
        self._start("storage", ["-c", _S3_SERVER, str(file)])
        return self._wait_for(file)

    def stop(self, name: str) -> None:
        """End a process, if it runs."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.terminate()
        process.wait(30)
        if process.stdin is not None:
            process.stdin.close()

    def pin(self, name: str, cpus: Collection[int]) -> None:
        """Have all threads of a process run on these CPUs."""
        for thread in os.listdir(f"/proc/{self._processes[name].pid}/task"):
            os.sched_setaffinity(int(thread), cpus)

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each process in seconds, and of a node's workers by its name and "workers"."""
        found: dict[str, float] = {}
        for name, process in self._processes.items():
            own, workers = cpu_seconds(process.pid)
            found[name] = own
            if workers:
                found[f"{name}'s workers"] = workers
        return found

    def _start(self, name: str, command: list[str], cpus: set[int] | None = None, share: CpuShare | None = None) -> None:
        def prepare() -> None:
            if cpus is not None:
                os.sched_setaffinity(0, cpus)
            if share is not None:
                share.enter()

        environment = {**os.environ, "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error"}
        with (self._folder / f"{name}.log").open("w") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._folder,
                preexec_fn=prepare,  # noqa: PLW1509 (no other thread holds a lock that it needs)
            )

    def _wait_for(self, file: Path) -> str:
        deadline = monotonic() + _START_S
        while True:
            with suppress(OSError):
                if text := file.read_text():
                    return text
            if monotonic() > deadline:
                raise TimeoutError(f"{file.name} does not appear")
            sleep(0.02)


def cpu_seconds(pid: int) -> tuple[float, float]:
    """CPU time in seconds: of a process, and of the workers of pools that it has now."""
    own = workers = 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[11]) + int(fields[12])
            if int(entry) == pid:
                own += ticks
            elif int(fields[1]) == pid and "offloop.worker" in Path(f"/proc/{entry}/cmdline").read_text():
                workers += ticks
    return own / _TICKS, workers / _TICKS
