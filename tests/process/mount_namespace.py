"""Scripts in a mount namespace of their own, with a /dev/shm of a given size."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

__all__ = ["run_with_shared_memory_of", "skip_without_mount_namespaces"]


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


def skip_without_mount_namespaces() -> None:
    """They need privileges that not every machine gives."""
    if shutil.which("unshare") is None or run_with_shared_memory_of("1m", "").returncode != 0:
        pytest.skip("mount namespaces cannot be made here")
