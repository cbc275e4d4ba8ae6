"""Creates the files behind segments of shared memory. None of them has a name.

A file in /dev/shm (`O_TMPFILE`) is bounded by the size of that file system. `SharedMemory` is not used, because it gives each
segment a name for milliseconds, and starts a resource tracker process to remove the names, which outlives the pool and does not
start everywhere. Only the inboxes of workers are made by `memfd_create`: the memory budget bounds them, and not the size of
/dev/shm.
"""

from __future__ import annotations

import _posixshmem  # pyright: ignore[reportMissingModuleSource] (SharedMemory uses it, too)
import errno
import os
import secrets

__all__ = ["create_private_file", "create_shared_file", "reopen_read_only"]

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (where POSIX shared memory lives on Linux)
_NOT_SUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}  # how kernels refuse O_TMPFILE


def create_private_file() -> int:
    """A descriptor of a new, empty file in memory that is not in /dev/shm, closed on exec."""
    return os.memfd_create("offloop-inbox", os.MFD_CLOEXEC)


def create_shared_file() -> int:
    """A descriptor of a new, empty file in /dev/shm without a name, closed on exec."""
    try:
        return os.open(_SHARED_MEMORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    return _create_and_unlink()


def _create_and_unlink() -> int:
    """As `create_shared_file`, for a file system without O_TMPFILE (gVisor): the file has a name for some microseconds."""
    name = f"/psm_{secrets.token_hex(8)}"
    descriptor: int = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=0o600)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    _posixshmem.shm_unlink(name)  # pyright: ignore[reportUnknownMemberType]
    return descriptor  # pyright: ignore[reportUnknownVariableType]


def reopen_read_only(descriptor: int) -> int:
    """A read-only descriptor of the same file."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
