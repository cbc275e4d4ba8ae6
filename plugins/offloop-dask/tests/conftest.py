"""A dask cluster of subprocesses on loopback: a scheduler and nodes, and the proof that nothing of a pool is left on a node."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from offloop.testing import Surroundings

PHOTOS = Path(__file__).parents[3] / "docs" / "photos"

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
    """A scheduler or a node, in a folder of its own."""

    def __init__(
        self, command: list[str], folder: Path, environment: dict[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        """Start it. `prefix`: a command that replaces itself by the one that follows it."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        with self.log.open("w") as file:
            self.popen = subprocess.Popen(
                [*prefix, sys.executable, "-X", "faulthandler", "-m", *command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **_ENVIRONMENT, **(environment or {})},
                cwd=folder,
            )

    def pool_workers(self) -> list[int]:
        """Pids of the worker processes of its pools."""
        return [pid for pid, command in descendants(self.popen.pid).items() if "offloop.worker" in command]

    def leftovers(self) -> list[str]:
        """What it has of a pool: worker processes, open shared memory, files in its working directory."""
        found = [f"worker {pid}" for pid in self.pool_workers()]
        for descriptor in Path(f"/proc/{self.popen.pid}/fd").iterdir():
            with suppress(OSError):
                target = os.readlink(descriptor)
                if "/dev/shm" in target or "memfd:" in target:
                    found.append(f"{descriptor.name} -> {target}")
        expected = {"log", "dask", "gate"}  # what tests and dask put there
        return found + [path.name for path in self.folder.iterdir() if path.name not in expected]

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
            self.popen.send_signal(signal.SIGABRT)  # Python writes the stacks of all threads into the log
            self.popen.wait(20)
            raise AssertionError(f"it has not ended:\n{self.log.read_text()[-8000:]}") from None
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


class Cluster:
    """A scheduler, and nodes that start and end during a test."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.nodes: dict[str, Process] = {}
        self._host = host
        self._number = 0
        self.start_scheduler()

    def start_scheduler(self, port: int = 0) -> None:
        """Start a scheduler; with the port of a former one, at its address."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        options = ["--host", self._host, "--port", str(port), "--scheduler-file", str(file), "--no-dashboard", "--no-jupyter"]
        self.scheduler = Process(["distributed.cli.dask_scheduler", *options], self.folder / "scheduler")

        def address() -> str | None:
            with suppress(OSError, ValueError):
                return json.loads(file.read_text())["address"]
            return None

        self.address: str = wait_until(address, "the scheduler does not start", _START_S)

    def start_node(
        self,
        *options: str,
        environment: dict[str, str] | None = None,
        name: str | None = None,
        prefix: Sequence[str] = (),
        scheduler: str | None = None,
    ) -> str:
        """Start a node, and return its name. It joins the cluster some time later. Its working directory is `folder / name`."""
        self._number += 1
        name = name or f"node-{self._number}"
        command = ["distributed.cli.dask_worker", scheduler or self.address, "--no-nanny", "--nthreads", "1", "--no-dashboard"]
        command += ["--name", name, "--local-directory", str(self.folder / name / "dask"), *options]
        self.nodes[name] = Process(command, self.folder / name, environment, prefix)
        return name

    def kill_node(self, name: str) -> None:
        """End a node at once."""
        self.nodes.pop(name).kill()

    def assert_nothing_left(self) -> None:
        """No node has anything of a pool, soon after the last client has gone."""
        for name, node in self.nodes.items():
            wait_until(lambda node=node: not node.leftovers(), f"{name} has {node.leftovers()}")

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
    """The shared cluster. Afterwards nothing of a pool may be left on a node."""
    yield shared_cluster
    shared_cluster.assert_nothing_left()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without nodes, for a test that breaks it. Afterwards nothing of a pool may be left on a node."""
    before = Surroundings.now()
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.assert_nothing_left()
    cluster.close()
    before.assert_nothing_new()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def photo() -> bytes:
    return (PHOTOS / "coffee.webp").read_bytes()
