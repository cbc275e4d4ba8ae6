"""The example under `uvicorn --reload`: each change brings new workers, and none of the old ones stays."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def reloader(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """uvicorn, watching a copy of the example."""
    shutil.copy(EXAMPLES / "server.py", tmp_path)
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "server:app",
        "--reload",
        "--reload-delay",
        "0.05",
        "--uds",
        "socket",
        "--log-level",
        "warning",
    ]
    with subprocess.Popen(command, cwd=tmp_path) as process:
        try:
            yield process
        finally:
            process.terminate()


def workers_of(reloader: int) -> set[int]:
    """The worker processes of its server, which is its child."""
    parents: dict[int, int] = {}
    workers: set[int] = set()
    for entry in Path("/proc").iterdir():
        try:
            pid = int(entry.name)
            parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if "offloop.worker" in (entry / "cmdline").read_text():
                workers.add(pid)
        except (OSError, ValueError):
            continue  # no process, or it ended while we looked
    return {pid for pid in workers if parents.get(parents[pid]) == reloader}


def until(condition: Callable[[], bool]) -> None:
    """Ask again and again; a condition that does not come true fails the test."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def test_a_reload_replaces_the_workers_and_sigterm_ends_all(reloader: subprocess.Popen[bytes], tmp_path: Path) -> None:
    def answers() -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(str(tmp_path / "socket"))
                connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
                return b'"ok"' in b"".join(iter(lambda: connection.recv(4096), b""))
            except OSError:
                return False

    until(answers)
    old = workers_of(reloader.pid)
    assert old
    source = tmp_path / "server.py"
    source.write_text(source.read_text() + "\n# changed\n")
    until(lambda: bool(workers_of(reloader.pid)) and not workers_of(reloader.pid) & old)
    until(answers)
    assert not [pid for pid in old if Path(f"/proc/{pid}").exists()]
    new = workers_of(reloader.pid)
    reloader.send_signal(signal.SIGTERM)
    assert reloader.wait(10) in (0, -signal.SIGTERM)
    until(lambda: not [pid for pid in new if Path(f"/proc/{pid}").exists()])
