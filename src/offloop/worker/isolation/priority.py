"""CPU priority of the worker, below the server's."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from typing import Literal

__all__ = ["lower_priority", "yield_timeslice"]

_MAX_NICE = 19
_SLICE_NS = 5_000_000  # requested time slice; the default is at most 2.8 ms. A longer slice costs long computations nothing
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}  # system call numbers; glibc has the function since 2.41 only


def lower_priority(nice: int | Literal["idle"]) -> None:
    """Lower the CPU priority of this thread and of all threads that it starts.

    Linux may group processes by session (autogroup) or by control group. Then niceness counts only within a group. A worker is
    in the server's session, so its niceness counts against the server and the other processes of that session.

    Args:
        nice: as `Pool(nice=...)`: an increment to the server's niceness, or "idle" for CPU time that no other process wants.
    """
    if nice == "idle":
        if _join_idle_class():
            return
        nice = _MAX_NICE
    if nice:
        _request_time_slice(os.nice(nice))


def yield_timeslice(cpu_ns: int) -> None:
    """Give up this thread's scheduling credit (lag) after a task.

    Linux's EEVDF credits a thread with the time that it waited for a CPU, and keeps the credit while the thread sleeps. With
    its next task, the thread would use the credit before the server's loop runs. Yielding forfeits it in kernels from the end
    of 2025 on. Small tasks do not yield, because their credit is small, and a yield costs a whole time slice if another thread
    wants the CPU.

    Args:
        cpu_ns: the CPU time that the task took.
    """
    if cpu_ns >= _SLICE_NS:
        with suppress(OSError):  # a sandbox forbids it
            os.sched_yield()


def _join_idle_class() -> bool:
    """Try to join SCHED_IDLE. Threads of all other classes then preempt the worker at once, even if they had more CPU time."""
    with suppress(OSError):  # a sandbox forbids it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        return True
    return False


def _request_time_slice(niceness: int) -> None:
    """Request a longer time slice, because a waking thread with a shorter slice may then preempt this one at once, unless it
    has had more than its share (EEVDF, Linux 6.12). Older kernels ignore the request."""
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None:
        return
    # struct sched_attr: its size, policy (the ordinary one), flags, niceness, priority, runtime, deadline, period
    attributes = struct.pack("=IIQiIQQQ", 48, 0, 0, niceness, 0, _SLICE_NS, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # an error is ignored, because the default slice works too
