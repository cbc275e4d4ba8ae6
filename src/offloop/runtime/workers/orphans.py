"""Finds and kills orphaned processes that a dead worker has started.

A worker's process group is killed with it. A process that plugin code has moved to another group or session (`setsid`, a
daemon) is not in that group, and after the worker's exit it is no longer a descendant of the server. But it has inherited
the worker's environment, in which a variable has the worker's id. All processes of this user are searched for that id.

A process that was started with another environment (`env -i`, `subprocess.run(..., env={...})`) and has left the group is not
found.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from ...wire.start import WORKER_ID

__all__ = ["kill_orphans"]

_MAX_ROUNDS = 10  # searches, because a process may start another one during a search


def kill_orphans(worker_id: str) -> int:
    """SIGKILL each process whose environment has the id of this dead worker. Returns the number of processes.

    Blocks: some 20 microseconds for each process of the system. Call it in a thread.
    """
    mark = f"{WORKER_ID}={worker_id}".encode()
    killed: set[int] = set()
    for _ in range(_MAX_ROUNDS):
        found = {pid for pid in _pids() if _has_mark(pid, mark) and _kill(pid)}
        killed |= found
        if not found:
            break
    return len(killed)


def _pids() -> list[int]:
    with suppress(OSError):  # no /proc in this container
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return []


def _has_mark(pid: int, mark: bytes) -> bool:
    """Whether the process was started with that variable. False for a zombie, and for a process of another user."""
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
        return mark in file.read(1 << 20).split(b"\0")
    return False


def _kill(pid: int) -> bool:
    """SIGKILL a process. The kernel does not reuse its number within microseconds, because it assigns numbers in turn."""
    with suppress(OSError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
