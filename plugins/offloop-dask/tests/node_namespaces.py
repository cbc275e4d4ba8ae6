"""Nodes with a file system or a network of their own, by namespaces of Linux: needs root, and the programs unshare and ip."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from time import monotonic, sleep

__all__ = ["OwnNetwork", "can_isolate", "with_small_file_system"]


def can_isolate() -> bool:
    """Whether this process may make namespaces, file systems and network cards."""
    script = "mount -t tmpfs tmpfs /mnt && ip link add own0 type veth peer name own1"
    try:
        done = subprocess.run(["unshare", "--mount", "--net", "sh", "-c", script], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def with_small_file_system(path: Path | str, size: str) -> tuple[str, ...]:
    """Prefix of a node's command: the node sees an empty file system of this size at a path, and no other process does."""
    script = 'mount -t tmpfs -o "size=$1" tmpfs "$2"; shift 2; exec "$@"'
    return ("unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", size, str(path))


class OwnNetwork:
    """A network of one node, with one cable to this machine's network."""

    def __init__(self, folder: Path) -> None:
        """Prepare it. `folder`: for a file that lets the node start when it is connected."""
        number = os.getpid() % 16_000
        self.host = f"10.213.{number // 64}.{number % 64 * 4 + 1}"
        """Address of this machine."""
        self.node = f"10.213.{number // 64}.{number % 64 * 4 + 2}"
        """Address of the node."""
        self._card = f"near{number}"
        self._node_card = f"far{number}"
        self._connected = folder / "connected"
        self.prefix = (
            *("unshare", "--net", "sh", "-euc", 'until [ -e "$1" ]; do sleep 0.02; done; shift; exec "$@"', "sh"),
            str(self._connected),
        )
        """Prefix of the node's command."""

    def connect(self, pid: int) -> None:
        """Connect the process with this pid, which was started with the prefix. The cable disappears with the process."""
        here, deadline = os.readlink("/proc/self/ns/net"), monotonic() + 20
        while os.readlink(f"/proc/{pid}/ns/net") == here:
            assert monotonic() < deadline, "the node has no network of its own"
            sleep(0.02)
        _run("ip", "link", "add", self._card, "type", "veth", "peer", "name", self._node_card, "netns", str(pid))
        _run("ip", "addr", "add", f"{self.host}/30", "dev", self._card)
        _run("ip", "link", "set", self._card, "up")
        inside = ("nsenter", "--target", str(pid), "--net")
        _run(*inside, "ip", "link", "set", "lo", "up")
        _run(*inside, "ip", "addr", "add", f"{self.node}/30", "dev", self._node_card)
        _run(*inside, "ip", "link", "set", self._node_card, "up")
        self._connected.touch()

    def cut(self) -> None:
        """Pull the cable out: packets are lost, and no connection is closed."""
        _run("ip", "link", "set", self._card, "down")

    def mend(self) -> None:
        """Put the cable in again."""
        _run("ip", "link", "set", self._card, "up")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
