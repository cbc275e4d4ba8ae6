"""Memory mapping of shared memory that keeps no descriptor and can be unmapped in parts.

`mmap.mmap` keeps a duplicate of the descriptor and all addresses until the last view of any part is deleted. A worker's outbox
has as many addresses as the memory limit, so one small result of a dead worker would hold a descriptor and gigabytes of
addresses.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from contextlib import suppress

__all__ = ["Mapping"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_MAP_FAILED = ctypes.c_void_p(-1).value


class Mapping:
    """A shared, writable mapping. Offsets and lengths of `export` and `discard` are whole pages."""

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
