"""Describes why a process could not be started: the error, and the system limit that was reached.

The system reports EAGAIN for four limits on processes and threads, without saying which. So each limit is compared with the
present number; a limit that is reached is named.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ...system.cgroups import control_groups, read_number

__all__ = ["describe_spawn_error"]

_NEAR_LIMIT_SHARE = 0.9  # share of a limit that counts as reached, because processes end between the failure and the check


def describe_spawn_error(
    error: Exception, *, proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup"), user_id: int | None = None
) -> str:
    """A text with the error, and the limit that was reached if it is known.

    Args:
        error: the error of a process or thread start.
        proc, mount: directories of the kernel's files.
        user_id: the user for the RLIMIT_NPROC check. None: this process's effective user.
    """
    text = f"{type(error).__name__}: {error}"
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"{text}; this process may have {limit:,} descriptors (RLIMIT_NOFILE)"
    if number == errno.EAGAIN or isinstance(error, RuntimeError):  # "can't start new thread"
        user_id = os.geteuid() if user_id is None else user_id
        return "; ".join([text, *_reached_limits(proc, mount, user_id)])
    return text


def _reached_limits(proc: Path, mount: Path, user_id: int) -> Iterator[str]:
    """Texts about the limits on processes and threads that are nearly reached.

    If none is, RLIMIT_NPROC is named without a check, because counting a user's threads is costly.
    """
    found = False
    for directory in control_groups("pids", listing=proc / "self/cgroup", mount=mount):
        limit, current = read_number(directory / "pids.max"), read_number(directory / "pids.current")
        if limit is not None and current is not None and current >= limit * _NEAR_LIMIT_SHARE:
            found = True
            yield f"the cgroup {directory} may have {limit:,} processes and threads, and has {current:,} (pids.max)"
    total = _total_threads(proc)
    for name in ("threads-max", "pid_max"):
        limit = read_number(proc / "sys/kernel" / name)
        if limit is not None and total >= limit * _NEAR_LIMIT_SHARE:
            found = True
            yield f"the system may have {limit:,} processes and threads, and has {total:,} (kernel.{name})"
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if not found and user_id != 0 and limit != resource.RLIM_INFINITY:
        yield f"this user may have {limit:,} processes and threads (RLIMIT_NPROC)"


def _total_threads(proc: Path) -> int:
    """Number of threads in the system, from a line as "0.20 0.18 0.12 1/80 11206"; 0 if unknown."""
    with suppress(OSError, ValueError, IndexError):
        return int((proc / "loadavg").read_text().split()[3].partition("/")[2])
    return 0
