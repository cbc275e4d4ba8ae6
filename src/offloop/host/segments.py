"""Shared memory as the server sees it.

A segment has a name for microseconds only: it is made by `multiprocessing.shared_memory` (which picks the name and tells the
resource tracker), opened by descriptor, and unlinked at once. Workers inherit a descriptor. So there is no entry in /dev/shm to
leave behind, whatever kills the server, and nothing to sweep at the next start.

Pages are fetched before they are touched: a full file system is an error here and SIGBUS there.
"""

from __future__ import annotations

import _posixshmem  # pyright: ignore[reportMissingModuleSource] (what SharedMemory itself opens with)
import ctypes
import errno
import mmap
import os
import threading
from hashlib import blake2b
from multiprocessing.shared_memory import SharedMemory

from ..core.ranges import RangeSet
from ..errors import PoolClosed
from .source_memory import copy_strided, loaded_numpy, memory_errors

__all__ = ["NoPages", "Segment"]

_WRITE_NBYTES = 1024 * 1024  # about 0.3 ms
_FETCH_NBYTES = 4 * 1024 * 1024  # about 0.5 ms


class NoPages(Exception):
    """The file system behind shared memory is full."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        super().__init__(f"{free_bytes:,} bytes are free")


class Segment:
    """One nameless piece of shared memory, mapped here, with descriptors for others to map it.

    The mapping goes when the last view of it is gone, not when the segment is closed.
    """

    def __init__(self, nbytes: int, *, workers_write: bool) -> None:
        """Make a sparse segment; it has addresses, but no pages yet.

        Raises:
            OSError: the system has no descriptor, no address space or no shared memory to give.
        """
        self.nbytes = nbytes
        named = SharedMemory(create=True, size=nbytes)
        try:
            self._fd = _open(named.name, os.O_RDWR)
            try:
                self.worker_fd = os.dup(self._fd) if workers_write else _open(named.name, os.O_RDONLY)
            except BaseException:
                os.close(self._fd)
                raise
        finally:
            named.unlink()
            named.close()
        try:
            self._memory = mmap.mmap(self._fd, nbytes)
        except BaseException:
            _close(self._fd, self.worker_fd)
            raise
        self._users = _Users(self._fd, self.worker_fd)
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
            raise NoPages(free.f_bavail * free.f_bsize) from None

    def give_back(self, start: int, end: int) -> None:
        """Return the pages of [start, end) to the system; reading there gives zeros and takes a page again."""
        with self._seen_lock:
            self._seen.remove(start, end)
        self._memory.madvise(mmap.MADV_REMOVE, start, end - start)

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
            copy_strided(data, memoryview(self.export(offset, data.nbytes)).cast("B"), loaded_numpy())
            return
        end = offset + data.nbytes
        with self._seen_lock:
            seen = not self._seen.gaps(offset, end)
            self._seen.add(offset, end)
        source = _pointer_to(data) if seen and private else None
        if source is None:
            self.write(offset, data)
        else:
            ctypes.memmove(self.export(offset, data.nbytes), source, data.nbytes)  # ctypes releases the GIL

    def read_in(self, descriptor: int, offset: int, nbytes: int) -> int:
        """Read a file from its start straight into the segment, without the GIL; returns how many bytes there were."""
        done = 0
        with memoryview(self._memory) as memory, memory[offset : offset + nbytes] as target:
            while done < nbytes and (count := os.preadv(descriptor, [target[done:]], done)):
                done += count
        return done

    def digest(self, offset: int, nbytes: int) -> bytes:
        """By which a source is known again: BLAKE2b, 16 bytes. Without the GIL, at about a gigabyte a second."""
        with memoryview(self._memory) as memory, memory[offset : offset + nbytes] as data:
            return blake2b(data, digest_size=16).digest()

    def export(self, offset: int, nbytes: int) -> ctypes.Array[ctypes.c_char]:
        """An object whose lifetime is that of all views of it; `memoryview(it)` is writable."""
        return (ctypes.c_char * nbytes).from_buffer(self._memory, offset)

    def read(self, offset: int, nbytes: int) -> bytes:
        """A copy of a few bytes."""
        return self._memory[offset : offset + nbytes]

    def close(self) -> None:
        """Give up the descriptors, or have the last thread that uses them do it. Views that exist stay valid."""
        self._users.send_away()


class _Users:
    """Those who use descriptors right now, which stay open meanwhile: a thread must not write to a number that is another file
    by now."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = descriptors  # closed when they were sent away and the last has left
        self._count = 0
        self._sent_away = False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Come.

        Raises:
            PoolClosed: they were sent away.
        """
        with self._lock:
            if self._sent_away:
                raise PoolClosed("the pool was closed while a source was copied")
            self._count += 1

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            self._count -= 1
            if self._sent_away and not self._count:
                _close(*self._descriptors)

    def send_away(self) -> None:
        """Nobody may come any more."""
        with self._lock:
            self._sent_away = True
            if not self._count:
                _close(*self._descriptors)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _pointer_to(data: memoryview) -> bytes | int | None:
    """What ctypes takes for the address of bytes that are held; None for read-only memory that is not a whole `bytes`."""
    if isinstance(data.obj, bytes) and len(data.obj) == data.nbytes:
        return data.obj
    return None if data.readonly else ctypes.addressof(ctypes.c_char.from_buffer(data))


def _open(name: str, flags: int) -> int:
    """A descriptor, closed on exec; `SharedMemory` keeps its own to itself, and would not open one read-only."""
    path = "/" + name.lstrip("/")
    return _posixshmem.shm_open(path, flags, mode=0o600)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
