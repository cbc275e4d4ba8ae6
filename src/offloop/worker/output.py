"""Output of processors: stdout is joined to stderr, which the supervisor reads.

The supervisor attributes output to the last task that it sent to the worker. So no output may stay in a buffer when a task
ends, because it would be attributed to the next task, which may belong to another customer.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

__all__ = ["flush_output", "open_output"]

_UNBUFFERED = 2  # _IONBF, in every libc of Linux


def open_output() -> None:
    """Replace `sys.stdout` with a stream that can print any text, and switch off the buffer of C's stdout."""
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115 (because it stays open)
    libc = ctypes.CDLL(None)
    with suppress(ValueError):  # a libc without that symbol
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _UNBUFFERED, 0)


def flush_output() -> None:
    """Flush Python's output streams, which buffer an unfinished line. Blocks while the pipe is full."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 (`suppress` costs each task more than the flush)
            stream.flush()
        except Exception:  # noqa: S110 (because a processor may replace or close its streams)
            pass
