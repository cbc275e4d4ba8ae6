"""What a processor prints: stdout joins stderr, which the supervisor reads.

The supervisor counts everything that is written between two tasks' beginnings as the first one's output. So nothing may be left
in a buffer when a task ends: it would be counted as the next task's, which may be another customer's.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

__all__ = ["flush_output", "open_output"]

_UNBUFFERED = 2  # _IONBF, in every libc of Linux


def open_output() -> None:
    """Make `sys.stdout` one that can print any text, and have C libraries write at once."""
    sys.stdout = open(1, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115 (for good)
    libc = ctypes.CDLL(None)
    with suppress(ValueError):  # a libc without that symbol
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _UNBUFFERED, 0)


def flush_output() -> None:
    """Write what Python's streams have kept of an unfinished line. Waits while the pipe is full."""
    for stream in (sys.stdout, sys.stderr):
        try:  # noqa: SIM105 (`suppress` costs each task more than the flush)
            stream.flush()
        except Exception:  # noqa: S110 (because a processor may replace or close its streams)
            pass
