"""A dask cluster of subprocesses on loopback: a scheduler and nodes, and the proof that no worker process of a pool is left."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

PHOTOS = Path(__file__).parents[3] / "docs" / "photos"
NODE: dict[str, Any] = {"workers": 1, "memory_limit": "256MiB"}
PLUGINS = ["offloop.testing.faults:FaultsPlugin", "functions", "vips"]

_START_S = 50.0  # most seconds until a dask process has started
_ENVIRONMENT = {
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "warning",
    "PYTHONPATH": str(Path(__file__).parent),  # because nodes and their workers import cluster_jobs
}


def wait_until(condition: Any, what: str, limit_s: float = 30.0) -> Any:
    """Return what the condition returns as soon as that is true. Looks fifty times a second."""
    deadline = monotonic() + limit_s
    while not (found := condition()):
        assert monotonic() < deadline, what
        sleep(0.02)
    return found


def descendants(pid: int) -> dict[int, str]:
    """Command lines of the processes below a process, by pid."""
    parents: dict[int, int] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, IndexError):
            parents[int(entry)] = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
    found: dict[int, str] = {}
    wanted = {pid}
    while wanted := {child for child, parent in parents.items() if parent in wanted}:
        for child in wanted:
            with suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
    return found


class Process:
    """A scheduler or a node."""

    def __init__(self, command: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("w") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=file,
                stderr=file,
                env={**os.environ, **_ENVIRONMENT, **(environment or {})},
                cwd=log.parent,
            )

    def pool_workers(self) -> list[int]:
        """Pids of the worker processes of its pools."""
        return [pid for pid, command in descendants(self.popen.pid).items() if "offloop.worker" in command]

    def kill(self) -> None:
        """End it at once, and with it its workers."""
        workers = self.pool_workers()
        self.popen.send_signal(signal.SIGCONT)
        self.popen.kill()
        self.popen.wait(20)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), f"workers are left: {workers}")

    def stop(self) -> None:
        """End it as an operator does. Its workers must be gone then."""
        workers = self.pool_workers()
        self.popen.send_signal(signal.SIGCONT)
        self.popen.terminate()
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


class Cluster:
    """A scheduler, and nodes that start and end during a test."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.nodes: dict[str, Process] = {}
        self._number = 0
        self.start_scheduler(port)

    def start_scheduler(self, port: int = 0) -> None:
        """Start a scheduler; with the port of a former one, at its address."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        options = ["--host", "127.0.0.1", "--port", str(port), "--scheduler-file", str(file), "--no-dashboard", "--no-jupyter"]
        self.scheduler = Process(["distributed.cli.dask_scheduler", *options], self.folder / "scheduler.log")

        def address() -> str | None:
            with suppress(OSError, ValueError):
                return json.loads(file.read_text())["address"]
            return None

        self.address: str = wait_until(address, "the scheduler does not start", _START_S)

    def start_node(self, *options: str, environment: dict[str, str] | None = None, name: str | None = None) -> str:
        """Start a node, and return its name. It joins the cluster some time later."""
        self._number += 1
        name = name or f"node-{self._number}"
        command = ["distributed.cli.dask_worker", self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
        command += ["--name", name, "--local-directory", str(self.folder / name), *options]
        self.nodes[name] = Process(command, self.folder / f"{name}.log", environment)
        return name

    def kill_node(self, name: str) -> None:
        """End a node at once."""
        self.nodes.pop(name).kill()

    def assert_no_pool(self) -> None:
        """No node has a worker process of a pool, soon after the last client has gone."""
        for name, node in self.nodes.items():
            wait_until(lambda node=node: not node.pool_workers(), f"{name} has workers: {node.pool_workers()}")

    def close(self) -> None:
        for node in self.nodes.values():
            node.stop()
        self.scheduler.stop()


@pytest.fixture
def anyio_backend() -> object:
    """dask runs on asyncio only."""
    return ("asyncio", {"use_uvloop": False})


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two nodes that the tests leave as they are."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    cluster.start_node(name="left")
    cluster.start_node(name="right")
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    """The shared cluster. Afterwards no node may have a pool."""
    yield shared_cluster
    shared_cluster.assert_no_pool()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without nodes, for a test that breaks it. Afterwards no node may have a pool."""
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.assert_no_pool()
    cluster.close()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def photo() -> bytes:
    return (PHOTOS / "coffee.webp").read_bytes()
