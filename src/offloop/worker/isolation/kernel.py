"""System calls of the sandbox that Python's standard library lacks: Landlock, seccomp, prctl and capset, through ctypes.

A test has a subclass that behaves as an older kernel.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

__all__ = ["Kernel"]

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # Landlock's numbers, the same on every architecture
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_CAPSET = {"x86_64": 126, "aarch64": 91}
_MEMBARRIER = {"x86_64": 324, "aarch64": 283}

_REGISTER_GLOBAL_EXPEDITED = 4  # command of membarrier

_GET_VERSION = 1  # flag of landlock_create_ruleset
_PATH_BENEATH = 1  # type of a Landlock rule
_SET_FILTER, _TO_ALL_THREADS = 1, 1  # operation and flag of seccomp
_CAPABILITY_VERSION = 0x20080522
_SET_NO_NEW_PRIVS, _SET_DUMPABLE = 38, 4  # options of prctl


class Kernel:
    """The kernel of this machine."""

    @property
    def machine(self) -> str:
        """Name of the architecture: "x86_64", "aarch64"."""
        return os.uname().machine

    def landlock_abi(self) -> int:
        """Returns the version of Landlock.

        Raises:
            OSError: the kernel has no Landlock, or it was not enabled at boot.
        """
        return _call(_CREATE_RULESET, None, 0, _GET_VERSION)

    def create_ruleset(self, attributes: bytes) -> int:
        """Returns the descriptor of a Landlock ruleset."""
        return _call(_CREATE_RULESET, attributes, len(attributes), 0)

    def allow_beneath(self, ruleset_fd: int, access: int, path_fd: int) -> None:
        """Allow access to a file, or to a directory with all that is in it."""
        _call(_ADD_RULE, ruleset_fd, _PATH_BENEATH, struct.pack("=Qi", access, path_fd), 0)

    def restrict_self(self, ruleset_fd: int, flags: int) -> None:
        """Enforce a Landlock ruleset on this thread and on its later threads."""
        _call(_RESTRICT_SELF, ruleset_fd, flags)

    def install_filter(self, program: Sequence[tuple[int, int, int, int]]) -> None:
        """Enforce a seccomp filter on all threads.

        Raises:
            OSError: the kernel refuses it, has no seccomp, or offloop does not know the number of the call.
        """
        number = _SECCOMP.get(self.machine)
        if number is None:
            raise OSError(errno.ENOSYS, f"the number of the call is not known for {self.machine}")
        code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *instruction) for instruction in program))
        description = struct.pack("@HP", len(program), ctypes.addressof(code))
        if _call(number, _SET_FILTER, _TO_ALL_THREADS, description) > 0:
            raise OSError(errno.EBUSY, "a thread of the worker has a filter of its own")

    def register_barrier(self) -> bool:
        """Have the memory barriers of other processes reach this one, see `system.memory_barrier`. Returns whether they do."""
        try:
            number = _MEMBARRIER[self.machine]
            return _call(number, _REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0
        except (KeyError, OSError):
            return False

    def set_no_new_privileges(self) -> None:
        """Have this thread and its later threads never gain privileges by exec."""
        self._prctl(_SET_NO_NEW_PRIVS, 1)

    def set_dumpable(self, *, dumpable: bool) -> None:
        """If False: close the files of this process in /proc to other processes of its user, and switch off core dumps."""
        self._prctl(_SET_DUMPABLE, dumpable)

    def keep_capabilities(self, capabilities: int) -> None:
        """Give up all capabilities of this thread except these: a mask of their bits."""
        number = _CAPSET.get(self.machine)
        if number is None:
            raise OSError(errno.ENOSYS, f"the number of the call is not known for {self.machine}")
        low, high = capabilities & 0xFFFFFFFF, capabilities >> 32
        data = struct.pack("=6I", low, low, 0, high, high, 0)  # effective, permitted and inheritable, twice 32 bits
        _call(number, struct.pack("=Ii", _CAPABILITY_VERSION, 0), data)

    def _prctl(self, option: int, value: int) -> None:
        zero = ctypes.c_ulong(0)
        if _libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
            _raise()


def _call(number: int, *arguments: int | bytes | None) -> int:
    converted = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(_syscall(ctypes.c_long(number), *converted))
    if result < 0:
        _raise()
    return result


def _raise() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
