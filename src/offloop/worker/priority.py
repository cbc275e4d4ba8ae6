"""The worker's place behind the server when both want a processor."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress

__all__ = ["yield_to_server"]

_LEAST = 19
_SLICE_NS = 20_000_000  # seven times the usual: what computes for long loses nothing by it
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}  # the C library has had it only since glibc 2.41


def yield_to_server(nice: int) -> None:
    """Be so much nicer than the server, from now on and with everything that is started from here.

    A worker has a session of its own, and where Linux groups processes by session (autogroup), niceness counts within a group
    only; so the group gets it too.

    Whoever wakes up with a shorter time slice may interrupt a longer one at once (Linux 6.12, EEVDF). So the worker asks for a
    long slice, and the server's loop does not wait for the end of it. Older kernels take no notice.
    """
    if not nice:
        return
    niceness = os.nice(nice)
    with suppress(OSError), open("/proc/self/autogroup", "w") as group:  # no such file: not Linux, or no autogroups
        group.write(str(min(niceness, _LEAST)))
    _ask_for_slice(niceness)


def _ask_for_slice(niceness: int) -> None:
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None:
        return
    # struct sched_attr: its size, policy (the ordinary one), flags, niceness, priority, runtime, deadline, period
    attributes = struct.pack("=IIQiIQQQ", 48, 0, 0, niceness, 0, _SLICE_NS, 0, 0)
    with suppress(OSError, AttributeError):  # no such function: not Linux
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # what it says to that makes no difference
