"""The layers of a sandbox that this kernel lacks, found without a worker and without a change of this process."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

__all__ = ["missing_kernel_layers"]

_LANDLOCK_CREATE_RULESET, _GET_VERSION = 444, 1  # the same number on every architecture; a flag
_SECCOMP = {"x86_64": 317, "aarch64": 277}  # numbers of the call
_GET_ACTION_AVAILABLE, _RETURN_ERRNO = 2, 0x00050000  # operation of seccomp; the action of the workers' filters


def _call(*arguments: int | bytes | None) -> int:
    """Make a system call. Returns its result, or minus its error."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    converted = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(libc.syscall(*converted))
    return -ctypes.get_errno() if result < 0 else result


def missing_kernel_layers(
    call: Callable[..., int] = _call,
    machine: str | None = None,
) -> dict[str, str]:
    """Returns the reasons by the name of the layer, "landlock" or "seccomp".

    Args:
        call: makes a system call, and returns its result, or minus its error.
        machine: name of the architecture; None: this one's.
    """
    missing: dict[str, str] = {}
    if (version := call(_LANDLOCK_CREATE_RULESET, None, 0, _GET_VERSION)) < 0:
        missing["landlock"] = os.strerror(-version)
    machine = machine or os.uname().machine
    if machine not in _SECCOMP:
        missing["seccomp"] = f"there is no list of system calls for the architecture {machine!r}"
    elif (error := call(_SECCOMP[machine], _GET_ACTION_AVAILABLE, 0, _RETURN_ERRNO.to_bytes(4, "little"))) < 0:
        missing["seccomp"] = os.strerror(-error)
    return missing
