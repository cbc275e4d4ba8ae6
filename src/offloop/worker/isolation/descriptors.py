"""Moving the protocol's descriptors out of reach.

0 is /dev/null and 1 is joined to 2 from the start, so a `print` goes to the log. Code that closes or reuses low descriptors by
number, as C libraries and daemonizing helpers do, must not hit the channel either: it moves up and is closed on exec.
"""

from __future__ import annotations

import fcntl
import os
import resource

__all__ = ["isolate_fd"]

_HIGH = 900  # above what code that closes "all" low descriptors reaches


def isolate_fd(descriptor: int) -> int:
    """Move a descriptor to a high number that is not inherited, and return the number."""
    soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    high = _HIGH if soft_limit == resource.RLIM_INFINITY else min(_HIGH, max(soft_limit - 32, 3))
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, high)
    os.close(descriptor)
    return moved
