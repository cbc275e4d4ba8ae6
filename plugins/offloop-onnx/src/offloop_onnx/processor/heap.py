"""Keeps freed memory in the heap while a task computes.

A computation with numpy frees and allocates blocks of all sizes hundreds of times. If they are given back in between, the page
faults of their first touches take as long as the computation: for a cut-out of a megapixel 8,400 faults and 59 ms of CPU time
with the settings of a worker, 1,000 faults and 43 ms in this context. What is free afterwards, at most some 15 MB, is given
back when the worker has been idle for a second (`offloop.worker.idle_memory`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["heap_reused"]

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # numbers of glibc's options
_DEFAULT_NBYTES = 128 * 1024  # glibc's value of both
_MMAP_NBYTES = 8 * 1024 * 1024  # larger blocks are few, and would leave holes that count against the limit of a task
_TRIM_NBYTES = 1024 * 1024 * 1024

_mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # None: another C library


@contextmanager
def heap_reused() -> Generator[None]:
    """Returns a context manager. Blocks that are freed inside of it are used again."""
    if _mallopt is None:
        yield
        return
    _mallopt(_MMAP_THRESHOLD, _MMAP_NBYTES)
    _mallopt(_TRIM_THRESHOLD, _TRIM_NBYTES)
    try:
        yield
    finally:
        for option, name in ((_MMAP_THRESHOLD, "MALLOC_MMAP_THRESHOLD_"), (_TRIM_THRESHOLD, "MALLOC_TRIM_THRESHOLD_")):
            _mallopt(option, _setting(name))


def _setting(name: str) -> int:
    """Returns the value with which the worker was started, in bytes."""
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        return _DEFAULT_NBYTES
