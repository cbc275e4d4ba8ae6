"""The worker's place behind the server when both want a CPU."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from typing import Literal

__all__ = ["lower_priority", "yield_timeslice"]

_MIN_NICE = 19
_HELPER_SHARE = 0.3  # of the others' niceness: at 2 beside 8, Linux gives nearly four times as much of a CPU
_SLICE_NS = 5_000_000  # longer than the usual one, of 2.8 ms at most; what computes for long loses nothing by it
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274, "riscv64": 274}  # the C library has had it only since glibc 2.41


def lower_priority(nice: int | Literal["idle"], *, helper: bool) -> None:
    """Be so much nicer than the server, or have only what nobody else wants, from now on and with every thread to come.

    Linux may group processes by session (autogroup) or by control group, and then niceness counts within a group only. A worker
    is in the server's session, so it is weighed against the server and what else runs there, and not against strangers.

    Args:
        nice: as `Pool(nice=...)`.
        helper: it has small tasks beside workers with large ones. Those are to have what it leaves them, so it is less nice.
    """
    if nice == "idle":
        if not helper and _join_idle_class():
            return
        nice = _MIN_NICE
    elif helper:
        nice = round(nice * _HELPER_SHARE)
    if nice:
        _ask_for_slice(os.nice(nice))


def yield_timeslice(cpu_ns: int) -> None:
    """After a task: give up what the system owes this thread for the time that it had to wait for a CPU.

    It would collect that with its next task, before the server's loop, which would have to wait until it is paid (Linux's EEVDF
    keeps it while a thread sleeps; yielding forfeits it in kernels from the end of 2025 on). Small tasks keep their claim: it
    is as small as they are, and the yield costs a whole time slice wherever somebody else wants the CPU, too.

    Args:
        cpu_ns: the CPU time that the task took.
    """
    if cpu_ns >= _SLICE_NS:
        with suppress(OSError):  # a sandbox forbids it
            os.sched_yield()


def _join_idle_class() -> bool:
    """Whoever is in no such class takes the CPU from the worker at once, however much it has had of it already."""
    with suppress(OSError):  # a sandbox forbids it
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        return True
    return False


def _ask_for_slice(niceness: int) -> None:
    """Whoever wakes up with a shorter time slice may interrupt a longer one at once, if it has not had more than its share
    (Linux 6.12, EEVDF). Older kernels take no notice."""
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is None:
        return
    # struct sched_attr: its size, policy (the ordinary one), flags, niceness, priority, runtime, deadline, period
    attributes = struct.pack("=IIQiIQQQ", 48, 0, 0, niceness, 0, _SLICE_NS, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, attributes, 0)  # a refusal makes no difference
