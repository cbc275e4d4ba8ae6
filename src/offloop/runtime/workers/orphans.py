"""Finds and kills orphaned processes that a dead worker has started.

A worker's process group is killed with it. A process that plugin code has moved to another group or session (`setsid`, a
daemon) is not in that group, and after the worker's exit it is no longer a descendant of the server. But it has inherited
the worker's environment, in which a variable has the worker's id. All processes of this user are searched for that id.

A process that was started with another environment (`env -i`, `subprocess.run(..., env={...})`) and has left the group is not
found.

If the server is process 1, as in a container without an init process, orphans become its children, and nothing else reaps them.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from time import monotonic, sleep

from ...wire.start import WORKER_ID

__all__ = ["kill_orphans"]

_MAX_ROUNDS = 10  # searches, because a process may start another one during a search
_REAP_LIMIT_S = 1.0  # a process in an uninterruptible sleep does not end
_POLL_S = 0.002  # seconds between checks


def kill_orphans(worker_id: str, group: int) -> int:
    """SIGKILL each process whose environment has the id of this dead worker. Returns the number of processes.

    Blocks: some 20 microseconds for each process of the system; and if this is process 1, until the orphans have ended. Call it
    in a thread.

    Args:
        worker_id: the id in the environment.
        group: the worker's process group, which was killed with it.
    """
    mark = f"{WORKER_ID}={worker_id}".encode()
    killed: set[int] = set()
    for _ in range(_MAX_ROUNDS):
        found = {pid for pid in _pids() if _has_mark(pid, mark) and _kill(pid)}
        killed |= found
        if not found:
            break
    if os.getpid() == 1:
        _reap(group, killed)
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


def _reap(group: int, pids: set[int]) -> None:
    """Reap the killed processes of the group, and these, as they become children of this process."""
    left = [(os.P_PGID, group), *((os.P_PID, pid) for pid in pids)]
    deadline = monotonic() + _REAP_LIMIT_S
    while left and monotonic() < deadline:
        left = [(kind, number) for kind, number in left if not _is_reaped(kind, number)]
        if left:
            sleep(_POLL_S)


def _is_reaped(kind: int, number: int) -> bool:
    try:
        while os.waitid(kind, number, os.WEXITED | os.WNOHANG) is not None:
            pass
    except ChildProcessError:
        # one of the others may still be its parent, and is about to end
        return kind == os.P_PGID or not os.path.exists(f"/proc/{number}")
    return False
