"""Closes the server's entries in /proc to other processes of its user, while it has workers in a sandbox.

Without that, a process of the same user can read and write the server's memory (/proc/PID/mem), its environment and its
descriptors. An undumpable process (PR_SET_DUMPABLE) belongs to root in /proc, and has no core dumps. Debuggers and profilers
that attach to it need root, too.
"""

from __future__ import annotations

import ctypes
import os
import threading

__all__ = ["ClosedProcEntries"]

_GET_DUMPABLE, _SET_DUMPABLE = 3, 4

_prctl = ctypes.CDLL(None).prctl
_lock = threading.Lock()
_closed: set[ClosedProcEntries] = set()  # of all pools of the process
_before = 1  # value before the first of them


class ClosedProcEntries:
    """If needed, the entries are closed from now on, until each pool that has closed them opens them again."""

    def __init__(self, *, needed: bool = True) -> None:
        global _before
        self._pid = os.getpid()
        if not needed:
            return
        with _lock:
            if not _closed:
                _before = _call_prctl(_GET_DUMPABLE)
                _call_prctl(_SET_DUMPABLE, 0)
            _closed.add(self)

    def reopen(self) -> None:
        """Open the entries again, unless another pool needs them closed. May be called again. No effect in a forked child."""
        if os.getpid() != self._pid:
            return
        with _lock:
            if self not in _closed:
                return
            _closed.discard(self)
            if not _closed and _before == 1:
                _call_prctl(_SET_DUMPABLE, 1)


def _call_prctl(option: int, value: int = 0) -> int:
    zero = ctypes.c_ulong(0)
    return int(_prctl(option, ctypes.c_ulong(value), zero, zero, zero))
