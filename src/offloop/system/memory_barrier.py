"""Memory barrier in all processes that have registered for it: membarrier(2), global expedited, of Linux 4.16.

One side of a protocol in shared memory executes the barrier of both sides, so that the other side need not pay for any. A
worker registers with `worker.isolation.kernel.Kernel.register_barrier`.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["execute_barrier", "is_barrier_supported"]

_NUMBERS = {"x86_64": 324, "aarch64": 283, "riscv64": 283}  # of the system call
_QUERY, _GLOBAL_EXPEDITED, _REGISTER = 0, 2, 4  # its commands

_system_call = ctypes.CDLL(None, use_errno=True).syscall


def execute_barrier() -> bool:
    """Execute a full memory barrier in this thread and in all threads of registered processes. Returns whether it was."""
    return _membarrier(_GLOBAL_EXPEDITED) == 0


def is_barrier_supported() -> bool:
    """Whether this system has the barrier."""
    supported, needed = _membarrier(_QUERY), _GLOBAL_EXPEDITED | _REGISTER
    return supported > 0 and supported & needed == needed


def _membarrier(command: int) -> int:
    number = _NUMBERS.get(os.uname().machine)
    return -1 if number is None else int(_system_call(number, command, 0, 0))
