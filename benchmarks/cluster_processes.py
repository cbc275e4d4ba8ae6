"""A dask scheduler and nodes as subprocesses, for bench_cluster.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Self

__all__ = ["ClusterProcesses", "cpu_seconds"]

_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 60.0


class ClusterProcesses:
    """A scheduler, and nodes that are pinned to CPUs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.address = ""

    def __enter__(self) -> Self:
        file = self._folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file), "--no-dashboard", "--no-jupyter"]
        self._start("scheduler", ["distributed.cli.dask_scheduler", *options])
        deadline = monotonic() + _START_S
        while not self.address:
            if monotonic() > deadline:
                raise TimeoutError("the scheduler does not start")
            with suppress(OSError, ValueError):
                self.address = json.loads(file.read_text())["address"]
            sleep(0.02)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for process in reversed(self._processes.values()):
            process.terminate()
            process.wait(30)

    def start_node(self, name: str, cpu: int) -> None:
        """Start a node. It and its pool's workers run on one CPU."""
        command = ["distributed.cli.dask_worker", self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
        command += ["--name", name, "--local-directory", str(self._folder / name)]
        self._start(name, command)
        os.sched_setaffinity(self._processes[name].pid, {cpu})

    def cpu_seconds(self) -> dict[str, float]:
        """CPU time of each process with its children, in seconds."""
        return {name: cpu_seconds(process.pid) for name, process in self._processes.items()}

    def _start(self, name: str, command: list[str]) -> None:
        environment = {**os.environ, "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error"}
        with (self._folder / f"{name}.log").open("w") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", *command], stdout=log, stderr=log, env=environment, cwd=self._folder
            )


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of the children that it has now, in seconds."""
    total = 0
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            if int(entry) == pid or (int(fields[1]) == pid and "offloop.worker" in Path(f"/proc/{entry}/cmdline").read_text()):
                total += int(fields[11]) + int(fields[12])
    return total / _TICKS
