"""Reads callers' memory safely, which may be a mapped file that another process truncates at the same time.

A load from a truncated page is SIGBUS, which kills the server; a system call that reads it fails with EFAULT. So memory that is
not known to be private is read by `pwrite` only: contiguous memory into the segment, other memory into a small scratch file
whose mapping is then read. Strided arrays (a crop, a transposed picture, BGR as RGB) are copied in pieces, in the order of
their own memory, so that the scratch stays small and no second copy of the array is made.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any, NamedTuple, Self

from ...buffer_protocol import address_of
from ...errors import InvalidTask

__all__ = ["copy_strided", "is_private_memory", "loaded_numpy", "read_head", "reading_error"]

_SCRATCH_NBYTES = 1024 * 1024
_PYTHON_SCRATCH_NBYTES = 64 * 1024  # without numpy, because a piece is copied with the GIL held: about 0.2 ms


def is_private_memory(view: memoryview) -> bool:
    """Whether a buffer's memory is this process's own heap: bytes, bytearrays, and numpy arrays that own their memory."""
    owner: Any = view.obj
    numpy = loaded_numpy()
    while numpy is not None and isinstance(owner, numpy.ndarray) and not owner.flags.owndata:
        owner = owner.base
    return type(owner) in (bytes, bytearray) or (numpy is not None and type(owner) is numpy.ndarray)


def loaded_numpy() -> Any:
    """The numpy module if the program has imported it, else None. Never imports it."""
    return sys.modules.get("numpy")


def reading_error(error: OSError) -> Exception:
    """The error to raise when a system call that reads a caller's memory has failed: `InvalidTask` for EFAULT."""
    if error.errno != errno.EFAULT:
        return error
    return InvalidTask("the source's memory cannot be read: it is a mapped file that was truncated or cannot be read")


def read_head(view: memoryview, nbytes: int) -> bytes:
    """A copy of the first `nbytes` of a caller's memory; empty for memory of several dimensions.

    Raises:
        InvalidTask: the memory cannot be read.
    """
    if view.ndim != 1:
        return b""
    head = view[: -(-nbytes // view.itemsize)]
    copied = bytearray(head.nbytes)
    copy_strided(head, memoryview(copied))
    return bytes(copied[:nbytes])


class _Layout(NamedTuple):
    """Shape and strides of an array in two memories, axes from the largest stride to the smallest. No stride is negative."""

    shape: tuple[int, ...]
    source_strides: tuple[int, ...]
    target_strides: tuple[int, ...]

    @property
    def span(self) -> int:
        """Bytes from the first byte of the first item to the first byte of the last one, in the source."""
        return sum((side - 1) * stride for side, stride in zip(self.shape, self.source_strides, strict=True))

    @property
    def nitems(self) -> int:
        """Number of items."""
        return prod(self.shape)

    def with_first_side(self, side: int) -> _Layout:
        """The layout with another length of the first axis."""
        return self._replace(shape=(side, *self.shape[1:]))


def copy_strided(source: memoryview, target: memoryview, numpy: Any = None) -> None:
    """Copy an array of any strides into C-contiguous memory of the same length. Blocks; for threads.

    Args:
        source: memory of any strides, contiguous too.
        target: one-dimensional, writable bytes.
        numpy: the module or None. With it the copy holds no GIL and is several times faster.

    Raises:
        InvalidTask: the memory cannot be read, or is not one array (suboffsets).
    """
    if not source.nbytes:
        return
    if source.suboffsets:
        raise InvalidTask("the source's memory is not one array; give a contiguous copy")
    layout, source_at, target_at = _in_memory_order(source)
    with _Scratch(_PYTHON_SCRATCH_NBYTES if numpy is None else _SCRATCH_NBYTES, source.itemsize, numpy) as scratch:
        scratch.copy(layout, address_of(source) + source_at, target, target_at)


def _in_memory_order(source: memoryview) -> tuple[_Layout, int, int]:
    """The layout, and the byte offsets of its first item from the first items of source and target."""
    shape, source_strides = source.shape or (), source.strides or ()  # typeshed: None is possible
    target_strides = [source.itemsize * prod(shape[axis + 1 :]) for axis in range(source.ndim)]
    source_at = target_at = 0
    axes: list[tuple[int, int, int]] = []
    for side, stride, target_stride in zip(shape, source_strides, target_strides, strict=True):
        if stride < 0:  # iterate this axis from its other end
            source_at += (side - 1) * stride
            target_at += (side - 1) * target_stride
            stride, target_stride = -stride, -target_stride  # noqa: PLW2901
        axes.append((stride, target_stride, side))
    axes.sort(key=lambda axis: (-axis[0], -axis[1]))
    layout = _Layout(tuple(a[2] for a in axes), tuple(a[0] for a in axes), tuple(a[1] for a in axes))
    return layout, source_at, target_at


class _Scratch:
    """A small file in memory through which pieces of an array are copied, so that only `pwrite` reads the source."""

    def __init__(self, nbytes: int, itemsize: int, numpy: Any) -> None:
        self._nbytes = max(nbytes, 2 * itemsize)
        self._itemsize = itemsize
        self._numpy = numpy

    def __enter__(self) -> Self:
        self._fd = os.memfd_create("offloop-scratch", os.MFD_CLOEXEC)
        try:
            os.ftruncate(self._fd, self._nbytes)
            self._memory = memoryview(mmap.mmap(self._fd, self._nbytes))
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        os.close(self._fd)

    def copy(self, layout: _Layout, address: int, target: memoryview, offset: int) -> None:
        """Copy the items of a layout from an address to an offset of the target."""
        if max(layout.span, layout.nitems * self._itemsize) + self._itemsize <= self._nbytes or not layout.shape:
            self._copy_piece(layout, address, target, offset)
            return
        side, source_stride, target_stride = (sides[0] for sides in layout)
        inner = _Layout(*(sides[1:] for sides in layout))
        for start, count in _pieces(side, self._count_at_once(inner, source_stride)):
            piece = inner if count == 1 else layout.with_first_side(count)
            self.copy(piece, address + start * source_stride, target, offset + start * target_stride)

    def _count_at_once(self, inner: _Layout, stride: int) -> int:
        """Number of steps along the first axis that fit into the scratch."""
        by_target = (self._nbytes - self._itemsize) // (inner.nitems * self._itemsize)
        by_source = by_target if not stride else (self._nbytes - inner.span - self._itemsize) // stride + 1
        return max(min(by_target, by_source), 1)

    def _copy_piece(self, layout: _Layout, address: int, target: memoryview, offset: int) -> None:
        nbytes = layout.span + self._itemsize
        piece = memoryview((ctypes.c_char * nbytes).from_address(address)).cast("B")
        done = 0
        try:
            while done < nbytes:
                done += os.pwrite(self._fd, piece[done:], done)
        except OSError as error:
            raise reading_error(error) from None
        if self._numpy is None:
            self._scatter(layout, target, offset)
        else:
            array = self._numpy.ndarray
            dtype = f"V{self._itemsize}" if self._itemsize not in (1, 2, 4, 8) else f"u{self._itemsize}"
            there = array(layout.shape, dtype, target, offset, layout.target_strides)
            self._numpy.copyto(there, array(layout.shape, dtype, self._memory, 0, layout.source_strides))

    def _scatter(self, layout: _Layout, target: memoryview, offset: int) -> None:
        """Copy a piece without numpy: one slice assignment for each byte of an item and each run along the longest axis."""
        longest = max(range(len(layout.shape)), key=layout.shape.__getitem__, default=None)
        others = [axis for axis in range(len(layout.shape)) if axis != longest]
        side, source_stride, target_stride = (1, 1, 1) if longest is None else (sides[longest] for sides in layout)
        for *places, byte in product(*(range(layout.shape[axis]) for axis in others), range(self._itemsize)):
            source_at = byte + sum(n * layout.source_strides[axis] for n, axis in zip(places, others, strict=True))
            target_at = offset + byte + sum(n * layout.target_strides[axis] for n, axis in zip(places, others, strict=True))
            run = bytes(self._memory[source_at : source_at + 1]) * side if not source_stride else None
            target[_run(target_at, target_stride, side)] = run or self._memory[_run(source_at, source_stride, side)]


def _run(start: int, stride: int, count: int) -> slice:
    """A slice of `count` bytes, one at every stride."""
    end = start + (count - 1) * stride
    stop = end + (1 if stride > 0 else -1)
    return slice(start, None if stop < 0 else stop, stride)


def _pieces(length: int, at_once: int) -> Iterator[tuple[int, int]]:
    """Consecutive pieces of a length: (start, count)."""
    for start in range(0, length, at_once):
        yield start, min(at_once, length - start)
