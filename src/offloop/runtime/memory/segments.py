"""Shared memory as the server sees it: POSIX shared memory as `multiprocessing.shared_memory` makes it, but without a name.

A segment is a file in /dev/shm that never had a name there (`O_TMPFILE`). The size of that file system bounds it, and a server
that is killed at any moment leaves nothing behind. Workers inherit a descriptor. `SharedMemory` itself is not used, because it
gives each segment a name for milliseconds, and starts a resource tracker process to sweep the names, which outlives the
pool and does not start everywhere. `memfd_create` is not used, because the size of /dev/shm does not bound it.

Pages are fetched before they are touched: a full file system is an error here and SIGBUS there.
"""

from __future__ import annotations

import _posixshmem  # pyright: ignore[reportMissingModuleSource] (what SharedMemory itself opens with)
import ctypes
import errno
import os
import secrets
import threading
from collections.abc import Callable
from hashlib import blake2b

from ...core.memory.ranges import RangeSet
from ...errors import PoolClosed
from .mapping import Mapping
from .source_memory import copy_strided, loaded_numpy, memory_errors

__all__ = ["PagesUnavailable", "Segment"]

_WRITE_NBYTES = 1024 * 1024  # about 0.3 ms
_FETCH_NBYTES = 4 * 1024 * 1024  # about 0.5 ms
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 (where POSIX shared memory lives on Linux)
_NOT_SUPPORTED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}  # how kernels refuse O_TMPFILE


class PagesUnavailable(Exception):
    """The file system behind shared memory is full."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        super().__init__(f"{free_bytes:,} bytes are free")


class Segment:
    """One nameless piece of shared memory, mapped here, with descriptors for others to map it.

    Views that exist stay valid, and mapped, when the segment is closed; all else is unmapped then.
    """

    def __init__(self, nbytes: int, *, workers_write: bool) -> None:
        """Make a sparse segment; it has addresses, but no pages yet.

        Raises:
            OSError: the system has no descriptor, no address space or no shared memory to give.
        """
        self.nbytes = nbytes
        self._fd = _create()
        try:
            os.ftruncate(self._fd, nbytes)
            self._memory = Mapping(self._fd, nbytes)
            try:
                self.worker_fd = os.dup(self._fd) if workers_write else _reopened_read_only(self._fd)
            except BaseException:
                self._memory.close()
                raise
        except BaseException:
            os.close(self._fd)
            raise
        self._users = _DescriptorGuard(self._release)
        self._seen = RangeSet()  # pages that large writes have filled before: it pays to copy through the mapping
        self._seen_lock = threading.Lock()

    def fetch(self, start: int, end: int) -> None:
        """Reserve the pages of [start, end). Blocks: about 14 ms for 128 MiB.

        Raises:
            NoPages: there are not as many; none was taken.
        """
        position = start
        try:
            with self._users:
                while position < end:  # in pieces, as in `write`
                    os.posix_fallocate(self._fd, position, min(_FETCH_NBYTES, end - position))
                    position += _FETCH_NBYTES
        except OSError as error:
            if position > start:
                self.give_back(start, position)
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            free = os.fstatvfs(self._fd)
            raise PagesUnavailable(free.f_bavail * free.f_bsize) from None

    def give_back(self, start: int, end: int) -> None:
        """Return the pages of [start, end) to the system; reading there gives zeros and takes a page again."""
        with self._seen_lock:
            self._seen.remove(start, end)
        self._memory.discard(start, end - start)

    def write(self, offset: int, data: memoryview) -> None:
        """Copy bytes in through the descriptor: no page fault here, and no GIL while it lasts.

        Raises:
            InvalidTask: the memory of the data cannot be read.
        """
        with self._users, memory_errors():
            while data:  # in pieces: a write locks the whole segment, and the loop may want to write a few bytes meanwhile
                written = os.pwrite(self._fd, data[:_WRITE_NBYTES], offset)
                data = data[written:]
                offset += written

    def write_large(self, offset: int, data: memoryview, *, private: bool) -> None:
        """Copy bytes in, the way that is fastest for these pages; without the GIL, in a thread.

        Measured for 128 MiB (memcpy: 12 ms): onto fresh pages 29 ms through the descriptor and 70 through the mapping;
        onto pages that were mapped before 32 and 12. So the first time goes through the descriptor, and later ones
        through the mapping.

        Args:
            offset: where to.
            data: one-dimensional bytes, or of any strides.
            private: no other process can take the pages of the data away. Else the copy goes through the descriptor, because
                reading a page that is gone would be SIGBUS.

        Raises:
            InvalidTask: the memory of the data cannot be read.
        """
        if not data.c_contiguous:
            with self._users:
                copy_strided(data, self._memory.view(offset, data.nbytes), loaded_numpy())
            return
        end = offset + data.nbytes
        with self._seen_lock:
            seen = not self._seen.gaps(offset, end)
            self._seen.add(offset, end)
        source = _pointer_to(data) if seen and private else None
        if source is None:
            self.write(offset, data)
        else:
            with self._users:
                self._memory.copy_in(offset, source, data.nbytes)

    def read_in(self, descriptor: int, offset: int, nbytes: int) -> int:
        """Read a file from its start straight into the segment, without the GIL; returns how many bytes there were."""
        done = 0
        with self._users, self._memory.view(offset, nbytes) as target:
            while done < nbytes and (count := os.preadv(descriptor, [target[done:]], done)):
                done += count
        return done

    def digest(self, offset: int, nbytes: int) -> bytes:
        """By which a source is known again: BLAKE2b, 16 bytes. Without the GIL, at about a gigabyte a second."""
        with self._users, self._memory.view(offset, nbytes) as data:
            return blake2b(data, digest_size=16).digest()

    def export(self, offset: int, nbytes: int) -> ctypes.Array[ctypes.c_char]:
        """An object over whole pages that stay mapped until `withdraw`; `memoryview(it)` is writable."""
        return self._memory.export(offset, nbytes)

    def withdraw(self, offset: int, nbytes: int) -> None:
        """No view of these exported pages is left. From any thread, between any two lines."""
        self._memory.withdraw(offset, nbytes)

    def read(self, offset: int, nbytes: int) -> bytes:
        """A copy of a few bytes."""
        return bytes(self._memory.view(offset, nbytes))

    def close(self) -> None:
        """Give up the descriptors and the mapping, or have the last thread that uses them do it. Exported pages stay mapped."""
        self._users.close_when_unused()

    def _release(self) -> None:
        os.close(self._fd)
        os.close(self.worker_fd)
        self._memory.close()


class _DescriptorGuard:
    """The threads that use a segment right now. It is released when it was closed and the last of them has left, because a
    thread must not write to a descriptor or an address that is of another file by now."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._count = 0
        self._closing = False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Come.

        Raises:
            PoolClosed: the segment was closed.
        """
        with self._lock:
            if self._closing:
                raise PoolClosed("the pool was closed while a source was copied")
            self._count += 1

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            self._count -= 1
            if self._closing and not self._count:
                self._release()

    def close_when_unused(self) -> None:
        """No thread may come any more."""
        with self._lock:
            self._closing = True
            if not self._count:
                self._release()


def _pointer_to(data: memoryview) -> bytes | int | None:
    """What ctypes takes for the address of bytes that are held; None for read-only memory that is not a whole `bytes`."""
    if isinstance(data.obj, bytes) and len(data.obj) == data.nbytes:
        return data.obj
    return None if data.readonly else ctypes.addressof(ctypes.c_char.from_buffer(data))


def _create() -> int:
    """A descriptor of a new, empty file in /dev/shm without a name, closed on exec."""
    try:
        return os.open(_SHARED_MEMORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
    return _create_and_unlink()


def _create_and_unlink() -> int:
    """The same where the file system has no O_TMPFILE (gVisor): the file has a name for some microseconds."""
    name = f"/psm_{secrets.token_hex(8)}"
    descriptor: int = _posixshmem.shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode=0o600)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    _posixshmem.shm_unlink(name)  # pyright: ignore[reportUnknownMemberType]
    return descriptor  # pyright: ignore[reportUnknownVariableType]


def _reopened_read_only(descriptor: int) -> int:
    """A second descriptor of the same file, with which it can only be read."""
    return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
