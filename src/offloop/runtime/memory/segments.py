"""Shared-memory segments in the server: POSIX shared memory as of `multiprocessing.shared_memory`, but without a name.

A segment is a file without a name (see `memory_files`), so a server that is killed at any moment leaves no file. Workers
inherit a descriptor.

Pages are reserved before they are accessed, because with a full file system a reservation fails with an error, and an access
with SIGBUS.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from hashlib import blake2b
from typing import NamedTuple

from ...core.memory.ranges import RangeSet
from ...errors import PoolClosed
from ...wire.status import STATUS_NBYTES, Status, read_status
from .memory_files import create_private_file, create_shared_file, reopen_read_only
from .source_memory import copy_strided, loaded_numpy, reading_error

__all__ = ["Copy", "FileUnreadable", "Mapping", "PagesUnavailable", "Segment", "digest_of", "find_status"]

_WRITE_NBYTES = 1024 * 1024  # about 0.3 ms
_READ_NBYTES = 256 * 1024  # of a file through a buffer that stays in the CPU's cache
_RESERVE_NBYTES = 4 * 1024 * 1024  # about 0.5 ms

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_MAP_FAILED = ctypes.c_void_p(-1).value


class PagesUnavailable(Exception):
    """The file system behind shared memory is full."""

    def __init__(self, free_bytes: int) -> None:
        self.free_bytes = free_bytes
        super().__init__(f"{free_bytes:,} bytes are free")


class FileUnreadable(Exception):
    """A source file cannot be read."""

    def __init__(self, error: OSError) -> None:
        self.error = error
        super().__init__(error.strerror or str(error))


class Copy(NamedTuple):
    """A copy from one segment into another."""

    source: int  # offset in the source segment, in bytes
    target: int  # offset in the target segment, in bytes
    nbytes: int


class Segment:
    """One unnamed shared-memory file, mapped in the server, with a descriptor for workers.

    Existing views stay valid and mapped when the segment is closed; the rest is unmapped.
    """

    def __init__(self, nbytes: int, *, workers_write: bool, in_shared_memory: bool = True) -> None:
        """Make a sparse segment: addresses without pages.

        Args:
            nbytes: its addresses.
            workers_write: whether the descriptor for workers is writable.
            in_shared_memory: whether the file is in /dev/shm, whose size bounds it.

        Raises:
            OSError: no descriptor, address space or shared memory is available.
        """
        self.nbytes = nbytes
        self._fd = create_shared_file() if in_shared_memory else create_private_file()
        try:
            os.ftruncate(self._fd, nbytes)
            self._memory = Mapping(self._fd, nbytes)
            try:
                self.worker_fd = os.dup(self._fd) if workers_write else reopen_read_only(self._fd)
            except BaseException:
                self._memory.close()
                raise
        except BaseException:
            os.close(self._fd)
            raise
        self._guard = _DescriptorGuard(self._release)
        self._written = RangeSet()  # pages that large writes have filled: copying through the mapping is faster there
        self._written_lock = threading.Lock()

    def reserve_pages(self, start: int, end: int) -> None:
        """Reserve the pages of [start, end). Blocks: about 14 ms for 128 MiB.

        Raises:
            PagesUnavailable: the file system has too few free pages; none is reserved.
        """
        position = start
        try:
            with self._guard:
                while position < end:  # in pieces, because each call locks the whole segment
                    os.posix_fallocate(self._fd, position, min(_RESERVE_NBYTES, end - position))
                    position += _RESERVE_NBYTES
        except OSError as error:
            if position > start:
                self.release_pages(start, position)
            if error.errno not in (errno.ENOSPC, errno.ENOMEM):
                raise
            free = os.fstatvfs(self._fd)
            raise PagesUnavailable(free.f_bavail * free.f_bsize) from None

    def release_pages(self, start: int, end: int) -> None:
        """Return the pages of [start, end) to the system. Reading there gives zeros and allocates a page again."""
        with self._written_lock:
            self._written.remove(start, end)
        self._memory.discard(start, end - start)

    def write(self, offset: int, data: memoryview) -> None:
        """Copy bytes into the segment through the descriptor: without a page fault, and without the GIL.

        Raises:
            InvalidTask: the memory of the data cannot be read.
        """
        with self._guard:
            try:
                while data:  # in pieces, because a write locks the whole segment and the loop may have a few bytes to write
                    written = os.pwrite(self._fd, data[:_WRITE_NBYTES], offset)
                    data = data[written:]
                    offset += written
            except OSError as error:
                raise reading_error(error) from None

    def copy_to(self, target: Segment, copy: Copy) -> None:
        """Copy a range into another segment."""
        with self._guard, self._memory.view(copy.source, copy.nbytes) as data:
            target.write(copy.target, data)

    def copy_large_to(self, target: Segment, copy: Copy) -> None:
        """Copy a range into another segment by the method that is fastest for its pages. For threads."""
        with self._guard, self._memory.view(copy.source, copy.nbytes) as data:
            target.write_large(copy.target, data, private=True)

    def discard_pages(self, start: int, end: int) -> None:
        """Return the pages of [start, end) to the system, unless the segment was closed.

        Raises:
            PoolClosed: it was closed.
        """
        with self._guard:
            self.release_pages(start, end)

    def write_large(self, offset: int, data: memoryview, *, private: bool) -> None:
        """Copy bytes into the segment by the method that is fastest for these pages. Without the GIL; for threads.

        Measured for 128 MiB (memcpy: 12 ms): onto fresh pages 29 ms through the descriptor and 70 through the mapping;
        onto pages that were mapped before 32 and 12. So the first time goes through the descriptor, and later ones
        through the mapping.

        Args:
            offset: position in the segment, in bytes.
            data: one-dimensional bytes, or an array of any strides.
            private: no other process can remove the pages of the data. Otherwise the copy goes through the descriptor, because
                a load from a removed page is SIGBUS.

        Raises:
            InvalidTask: the memory of the data cannot be read.
        """
        if not data.c_contiguous:
            with self._guard:
                copy_strided(data, self._memory.view(offset, data.nbytes), loaded_numpy())
            return
        end = offset + data.nbytes
        with self._written_lock:
            was_written = not self._written.gaps(offset, end)
            self._written.add(offset, end)
        source = _pointer_to(data) if was_written and private else None
        if source is None:
            self.write(offset, data)
        else:
            with self._guard:
                self._memory.copy_in(offset, source, data.nbytes)

    def read_in(self, descriptor: int, offset: int, nbytes: int, is_wanted: Callable[[], bool] = lambda: True) -> int:
        """Read a file from its start into the segment, without the GIL. For threads.

        Measured for 36 MiB from the page cache, in CPU time: onto pages that were mapped before 3 ms directly, and 11 through a
        buffer; onto fresh pages 22 directly, because each is a fault, and 16 through a buffer.

        Args:
            descriptor: of the file.
            offset: position in the segment, in bytes.
            nbytes: length of the file.
            is_wanted: whether to go on; called after each piece.

        Returns:
            The number of bytes that were read: fewer if the file is shorter, or is not wanted any more.

        Raises:
            FileUnreadable: the file cannot be read.
            OSError: the system has no memory for the pages.
        """
        with self._written_lock:
            was_written = not self._written.gaps(offset, offset + nbytes)
            self._written.add(offset, offset + nbytes)
        done = 0
        with self._guard, self._memory.view(offset, nbytes) as target:
            buffer = None if was_written else memoryview(bytearray(min(_READ_NBYTES, nbytes)))
            while done < nbytes and is_wanted():
                piece = target[done : done + _WRITE_NBYTES] if buffer is None else buffer[: nbytes - done]
                try:
                    count = os.preadv(descriptor, [piece], done)
                except OSError as error:
                    raise FileUnreadable(error) from None
                if not count:
                    break
                if buffer is not None:
                    self.write(offset + done, buffer[:count])
                done += count
        return done

    def fill(self, offset: int, nbytes: int, write: Callable[[memoryview], object]) -> None:
        """Have a function write into a range. It must keep no reference to the memory. For threads."""
        with self._guard, self._memory.view(offset, nbytes) as target:
            write(target)

    def digest(self, ranges: Iterable[tuple[int, int]]) -> bytes:
        """The digest of ranges, pairs of offset and length, see `digest_of`."""
        with self._guard:
            return digest_of(self._memory.view(offset, nbytes) for offset, nbytes in ranges)

    def export(self, offset: int, nbytes: int) -> ctypes.Array[ctypes.c_char]:
        """An object over whole pages that stay mapped until `withdraw`. Its `memoryview` is writable."""
        return self._memory.export(offset, nbytes)

    def withdraw(self, offset: int, nbytes: int) -> None:
        """End an export, after its last view was deleted. Any thread or finalizer may call it."""
        self._memory.withdraw(offset, nbytes)

    def with_first_page(self, use: Callable[[memoryview], int]) -> int:
        """Call a function with the first page, and return what it returns."""
        with self._guard, self._memory.view(0, mmap.PAGESIZE) as page:
            return use(page)

    def read(self, offset: int, nbytes: int) -> bytes:
        """A copy of a few bytes."""
        return bytes(self._memory.view(offset, nbytes))

    def close(self) -> None:
        """Close the descriptors and the mapping, now or when the last thread has stopped using them. Exports stay mapped."""
        self._guard.close_when_unused()

    def _release(self) -> None:
        os.close(self._fd)
        os.close(self.worker_fd)
        self._memory.close()


def digest_of(pieces: Iterable[memoryview | bytes]) -> bytes:
    """BLAKE2b hash (16 bytes) of memory, by which sources are recognized. Without the GIL, about a gigabyte a second."""
    total = blake2b(digest_size=16)
    for piece in pieces:
        total.update(piece)
    return total.digest()


def find_status(segments: dict[int, Segment], outbox_id: int) -> Status | None:
    """Returns the status page of an outbox; None: the outbox was released."""
    segment = segments.get(outbox_id)
    return None if segment is None else read_status(segment.read(0, STATUS_NBYTES))


class Mapping:
    """A shared, writable mapping that keeps no descriptor and can be unmapped in parts.

    `mmap.mmap` keeps a duplicate of the descriptor and all addresses until the last view of any part is deleted. A worker's
    outbox has as many addresses as the memory limit, so one small result of a dead worker would hold a descriptor and gigabytes
    of addresses. Offsets and lengths of `export` and `discard` are whole pages.
    """

    def __init__(self, descriptor: int, nbytes: int) -> None:
        """Map the first `nbytes` of a file; its descriptor may be closed afterwards.

        Raises:
            OSError: there is not enough address space.
        """
        address = _libc.mmap(None, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, descriptor, 0)
        if address == _MAP_FAILED:
            error = ctypes.get_errno()
            raise OSError(error, f"cannot map {nbytes:,} bytes of shared memory: {os.strerror(error)}")
        self._address: int = address
        self._nbytes = nbytes
        self._pid = os.getpid()
        self._whole = memoryview((ctypes.c_char * nbytes).from_address(address)).cast("B")
        self._exported: dict[int, int] = {}  # offset -> length of each exported range, until the mapping is closed

    def view(self, offset: int, nbytes: int) -> memoryview:
        """A writable view that must be deleted before the mapping is closed."""
        return self._whole[offset : offset + nbytes]

    def copy_in(self, offset: int, source: bytes | int, nbytes: int) -> None:
        """Copy bytes from an object or an address, without the GIL."""
        ctypes.memmove(self._address + offset, source, nbytes)

    def export(self, offset: int, nbytes: int) -> ctypes.Array[ctypes.c_char]:
        """An object over a range that stays mapped until `withdraw`. Ranges do not overlap."""
        self._exported[offset] = nbytes
        return (ctypes.c_char * nbytes).from_address(self._address + offset)

    def withdraw(self, offset: int, nbytes: int) -> None:
        """End an export, after the last object over the range was deleted. Any thread or finalizer may call it: no lock.

        Popping the range's entry decides which method unmaps it. `close` unmaps everything but the ranges that it popped;
        those are unmapped here, and their pages discarded.
        """
        if self._exported.pop(offset, None) is None:
            if os.getpid() == self._pid:  # not in a forked child, because the parent may still read the pages
                with suppress(OSError):
                    self.discard(offset, nbytes)
            _libc.munmap(self._address + offset, nbytes)

    def discard(self, offset: int, nbytes: int) -> None:
        """Return the pages of a range to the system. Reading there gives zeros and allocates a page again.

        Raises:
            OSError: the file system does not support it.
        """
        if _libc.madvise(self._address + offset, nbytes, mmap.MADV_REMOVE):
            error = ctypes.get_errno()
            raise OSError(error, f"cannot return {nbytes:,} bytes of shared memory: {os.strerror(error)}")

    def close(self) -> None:
        """Unmap everything but the exported ranges, which are unmapped when they are withdrawn."""
        kept: list[tuple[int, int]] = []
        for offset in list(self._exported):
            nbytes = self._exported.pop(offset, None)
            if nbytes is not None:  # None: another thread has withdrawn it
                kept.append((offset, offset + nbytes))
        start = 0
        for kept_start, kept_end in [*sorted(kept), (self._nbytes, self._nbytes)]:
            if start < kept_start:
                _libc.munmap(self._address + start, kept_start - start)
            start = kept_end


class _DescriptorGuard:
    """Counts the threads that use a segment, and delays its release until the last has left.

    Otherwise a thread could write to a descriptor or an address that belongs to another file by then.
    """

    def __init__(self, release: Callable[[], None]) -> None:
        self._release = release
        self._count = 0
        self._closing = False
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        """Count this thread.

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
        """Refuse more threads, and release the segment when no thread uses it."""
        with self._lock:
            self._closing = True
            if not self._count:
                self._release()


def _pointer_to(data: memoryview) -> bytes | int | None:
    """The data as an argument for `memmove`. None: read-only memory that is not a whole `bytes` object."""
    if isinstance(data.obj, bytes) and len(data.obj) == data.nbytes:
        return data.obj
    return None if data.readonly else ctypes.addressof(ctypes.c_char.from_buffer(data))
