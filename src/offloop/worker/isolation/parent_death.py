"""Dying with the supervisor, even while native code holds the GIL.

The supervisor holds the only write end of a pipe. When it is gone, however it went, the kernel sends the owner of the read end
a signal of its choice. The owner is the worker's process group and the signal SIGKILL, so what a worker started itself dies
too. PR_SET_PDEATHSIG would follow the thread that spawned us instead of the process.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal

__all__ = ["watch_parent"]


def watch_parent(descriptor: int) -> None:
    """Arrange to be killed when the pipe's write end closes; exit if it has closed already."""
    leads = os.getpgrp() == os.getpid()  # else the group is another process's
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp() if leads else os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()  # it may have closed before the signal was armed
    poller.register(descriptor, select.POLLIN)
    if poller.poll(0):
        os._exit(1)
