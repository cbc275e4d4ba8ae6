"""Maps shared memory segments in a worker, and closes their descriptors.

`mmap.mmap` would keep a duplicate of the descriptor. With it, a hijacked worker could shrink the segment, and the server would
die of SIGBUS. So the segment is mapped through libc. The mapping lives as long as the process.
"""

from __future__ import annotations

import ctypes
import mmap
import os

from ..wire.handles import Handle

__all__ = ["Segment"]

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_MAP_FAILED = ctypes.c_void_p(-1).value


class Segment:
    """A mapped segment of shared memory."""

    def __init__(self, descriptor: int, nbytes: int, *, writable: bool) -> None:
        """Map the first `nbytes` of the descriptor's file and close the descriptor."""
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        address = _libc.mmap(None, nbytes, protection, mmap.MAP_SHARED, descriptor, 0)
        os.close(descriptor)
        if address == _MAP_FAILED:
            error = ctypes.get_errno()
            raise OSError(error, f"cannot map {nbytes:,} bytes of shared memory: {os.strerror(error)}")
        self.address: int = address
        whole = memoryview((ctypes.c_char * nbytes).from_address(address)).cast("B")
        self._memory = whole if writable else whole.toreadonly()
        self.first_page = self._memory[: mmap.PAGESIZE]  # of an outbox: the status page

    def view(self, handle: Handle) -> memoryview:
        """Returns a view of the bytes that a handle refers to."""
        return self._memory[handle.offset : handle.offset + handle.nbytes]


def address_of(memory: memoryview) -> int | None:
    """Returns the address of writable memory; None if it is empty, read-only or not contiguous."""
    if memory.readonly or not memory.nbytes or not memory.c_contiguous:
        return None
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
