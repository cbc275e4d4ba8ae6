"""Restricts the worker's access to files, TCP and signals with Landlock, in two stages.

A ruleset denies each kind of access that it handles, except what its rules allow. Rulesets add up: a later one can only narrow
an earlier one. The first stage, before plugins are imported, allows reading of code and libraries. The second one, after that,
allows only what the plugins need. Before ABI 8 a ruleset is enforced on the calling thread and on threads that it starts
later; so threads that plugins start while they are loaded stay in the first stage. The seccomp filter is for all threads.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress

from .kernel import Kernel

__all__ = ["Landlock"]

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_FILE_TYPES = (1 << 6) | (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10) | (1 << 11) | (1 << 12)  # devices to symbolic links
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_FILE = 1 << 4, 1 << 5, 1 << 7, 1 << 8
_REFER, _TRUNCATE, _IOCTL_DEV, _RESOLVE_UNIX = 1 << 13, 1 << 14, 1 << 15, 1 << 16
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1
_TO_ALL_THREADS = 1 << 3  # flag of landlock_restrict_self

_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _READ_DIR | _REMOVE_DIR | _REMOVE_FILE | _MAKE_FILE_TYPES
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # access that a rule on a file may allow
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_FILE | _REFER | _TRUNCATE | _IOCTL_DEV

_FILE_ACCESS = ((1, _FILES, "files"), (2, _REFER, "renaming"), (3, _TRUNCATE, "truncation"), (5, _IOCTL_DEV, "devices"),
                (9, _RESOLVE_UNIX, "named sockets"))  # fmt: skip
_TCP_ABI, _SCOPES_ABI, _ALL_THREADS_ABI = 4, 6, 8


class Landlock:
    """Landlock of one worker."""

    def __init__(self, kernel: Kernel, *, network: bool) -> None:
        """Prepare to restrict this process.

        Args:
            network: whether connections over TCP are allowed.

        Raises:
            OSError: the kernel has no Landlock.
        """
        self._kernel = kernel
        self.abi = kernel.landlock_abi()
        self.stages = 0  # number of enforced rulesets
        self._files = sum(access for abi, access, _ in _FILE_ACCESS if self.abi >= abi)
        self._tcp = _BIND_TCP | _CONNECT_TCP if self.abi >= _TCP_ABI and not network else 0
        self._scoped = _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if self.abi >= _SCOPES_ABI else 0

    @property
    def scope(self) -> tuple[str, ...]:
        """Names of what the enforced rulesets restrict."""
        names = [name for abi, _, name in _FILE_ACCESS if self.abi >= abi]
        names += ["tcp"] if self._tcp else []
        names += ["abstract sockets", "signals"] if self._scoped else []
        return (*names, "all threads") if self.abi >= _ALL_THREADS_ABI else tuple(names)

    def restrict(self, readable: Iterable[str], writable: Iterable[str]) -> None:
        """Enforce a ruleset: only these files, and these directories with all that is in them, can be read or written.

        A path that does not exist, or that this process may not reach, is left out.

        Raises:
            OSError: the kernel refuses the ruleset.
        """
        size = 8 if self.abi < _TCP_ABI else 16 if self.abi < _SCOPES_ABI else 24  # bytes of the structure that this ABI knows
        ruleset_fd = self._kernel.create_ruleset(struct.pack("=3Q", self._files, self._tcp, self._scoped)[:size])
        try:
            for path in readable:
                self._allow(ruleset_fd, path, _READ)
            for path in writable:
                self._allow(ruleset_fd, path, _WRITE)
            self._kernel.restrict_self(ruleset_fd, _TO_ALL_THREADS if self.abi >= _ALL_THREADS_ABI else 0)
        finally:
            os.close(ruleset_fd)
        self.stages += 1

    def _allow(self, ruleset_fd: int, path: str, access: int) -> None:
        with suppress(OSError, ValueError):
            path_fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                access &= self._files if stat.S_ISDIR(os.fstat(path_fd).st_mode) else self._files & _ON_FILES
                self._kernel.allow_beneath(ruleset_fd, access, path_fd)
            finally:
                os.close(path_fd)
