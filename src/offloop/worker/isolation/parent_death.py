"""Kills the worker when its supervisor dies, even while native code holds the GIL.

The supervisor has the only write end of a pipe, the lifeline. When the supervisor ends for any reason, the kernel sends the
owner of the read end a signal. The owner is the worker's process group and the signal is SIGKILL, so processes that the worker
started die too. PR_SET_PDEATHSIG is not used, because it reports the end of the thread that spawned the worker, not of the
process.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal

__all__ = ["watch_parent"]


def watch_parent(descriptor: int) -> None:
    """Have the kernel kill this process group when the pipe's write end closes. Exits if it is closed already."""
    is_group_leader = os.getpgrp() == os.getpid()  # False: the group belongs to another process and must not be killed
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp() if is_group_leader else os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)
    poller = select.poll()  # because the write end may have closed before the signal was armed
    poller.register(descriptor, select.POLLIN)
    if poller.poll(0):
        os._exit(1)
