"""Limits and privileges of the worker process that are no longer needed when it loads plugins, or when it has loaded them."""

from __future__ import annotations

import os
import resource
from contextlib import suppress

from .kernel import Kernel

__all__ = ["drop_privileges", "lower_limits"]

_MAX_FILES = 1024
_READ_ANY_FILE = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
_LIMITS = {
    "core": (resource.RLIMIT_CORE, 0),  # because a core dump has the sources of tasks in it
    "nofile": (resource.RLIMIT_NOFILE, _MAX_FILES),
    "memlock": (resource.RLIMIT_MEMLOCK, 0),
    "msgqueue": (resource.RLIMIT_MSGQUEUE, 0),
    "nice": (resource.RLIMIT_NICE, 0),
    "rtprio": (resource.RLIMIT_RTPRIO, 0),
}
_UMASK = 0o077


def lower_limits(max_file_nbytes: int | None) -> dict[str, int]:
    """Lower the limits of this process for its lifetime. Returns the limits by name.

    RLIMIT_NPROC is no help: it counts all processes and threads of the user. A lower limit that is in force stays.

    Args:
        max_file_nbytes: length that a file may have which the worker writes, such as the result of a task; None: no limit.

    Raises:
        OSError, ValueError: the system refuses a limit.
    """
    os.umask(_UMASK)
    limits = dict(_LIMITS)
    if max_file_nbytes is not None:
        limits["fsize"] = (resource.RLIMIT_FSIZE, max_file_nbytes)
    lowered: dict[str, int] = {}
    for name, (kind, limit) in limits.items():
        present = resource.getrlimit(kind)[1]
        lowered[name] = limit if present == resource.RLIM_INFINITY else min(limit, present)
        resource.setrlimit(kind, (lowered[name], lowered[name]))
    return lowered


def drop_privileges(kernel: Kernel, *, can_read_any_file: bool) -> None:
    """Have this thread, and threads that it starts later, have no capabilities and never gain any.

    Args:
        can_read_any_file: keep the two capabilities by which a server of root reads a module of another user. Root's workers
            need them until they have loaded their plugins.

    Raises:
        OSError: the kernel refuses it.
    """
    kernel.set_no_new_privileges()
    present = _present_capabilities()
    if present:
        kernel.keep_capabilities(present & _READ_ANY_FILE if can_read_any_file else 0)


def _present_capabilities() -> int:
    """Returns the bits of the permitted capabilities; all bits if they cannot be read."""
    with suppress(OSError), open("/proc/thread-self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapPrm:"):
                return int(line.split()[1], 16)
    return (1 << 64) - 1
