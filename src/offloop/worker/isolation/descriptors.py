"""Moves the descriptors of the protocol to high numbers.

From the start, descriptor 0 is /dev/null and 1 is joined to 2, so a `print` goes to the log. C libraries and daemonizing code
may close or reuse low descriptors by number. So that they do not hit the channel, it gets a high number, and is closed on exec.
"""

from __future__ import annotations

import fcntl
import os
import resource

__all__ = ["isolate_fd"]

_HIGH = 900  # lowest new number; above the descriptors that code closes when it closes "all"


def isolate_fd(descriptor: int) -> int:
    """Move a descriptor to a high number that is not inherited (CLOEXEC). Returns the number."""
    soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    high = _HIGH if soft_limit == resource.RLIM_INFINITY else min(_HIGH, max(soft_limit - 32, 3))
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, high)
    os.close(descriptor)
    return moved
