"""Runs programs as a container does: with the limits of a cgroup, as process 1, with a read-only root and a small /dev/shm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

__all__ = ["CONTAINER", "cgroup", "container_command", "run_in_cgroup", "skip_without_containers"]

MOUNT = Path("/sys/fs/cgroup")

CONTAINER = (
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"),
    # as `docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges`; bounding: because the user is root
    """mount -t tmpfs -o size=64m tmpfs /dev/shm && mount -o remount,bind,ro / &&
    exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@" """,
    "sh",
)
"""Starts a program as process 1 of new namespaces, without capabilities, with a read-only root and 64 MB of /dev/shm."""


def container_command(script: str, *arguments: str) -> list[str]:
    """The command for a script of Python as process 1 of such a container."""
    return [*CONTAINER, sys.executable, "-c", script, *arguments]


def skip_without_containers() -> None:
    """Namespaces need privileges that not every machine gives."""
    tools = all(shutil.which(name) for name in ("unshare", "setpriv", "mount"))
    if not tools or subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("PID and mount namespaces cannot be made here")


@contextmanager
def cgroup(controller: str, limits: Mapping[str, str]) -> Generator[Path]:
    """A new cgroup below that of this process.

    Args:
        controller: such as "memory".
        limits: texts by the names of files, of both versions of cgroups: those that there are are written.
    """
    parent = _own_cgroup(controller)
    if parent is None:
        pytest.skip(f"there is no controller {controller!r} here")
    with suppress(OSError):  # version 2: children have it only then; refused where the parent has processes
        (parent / "cgroup.subtree_control").write_text(f"+{controller}")
    directory = parent / f"offloop-test-{os.getpid()}-{time.monotonic_ns()}"
    try:
        directory.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    try:
        written = 0
        for name, text in limits.items():
            if (directory / name).exists():
                (directory / name).write_text(text)
                written += 1
        if not written:
            pytest.skip(f"a new cgroup has no controller {controller!r} here")
        yield directory
    finally:
        _remove(directory)


def run_in_cgroup(directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script of Python in a cgroup."""
    enter = 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"'
    command = ["sh", "-c", enter, "sh", str(directory), sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


def _own_cgroup(controller: str) -> Path | None:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        directory = MOUNT / controller / path[1:] if controllers else MOUNT / path[1:]
        if controllers:
            has_it = controller in controllers.split(",") and directory.is_dir()
        else:
            listing = directory / "cgroup.controllers"
            has_it = listing.is_file() and controller in listing.read_text().split()
        if has_it:
            return directory
    return None


def _remove(directory: Path) -> None:
    """Remove a cgroup. Processes that have just ended keep it for a moment."""
    deadline = time.monotonic() + 10
    while directory.exists():
        with suppress(OSError):
            directory.rmdir()
        assert time.monotonic() < deadline, f"{directory} has processes"
