"""Memory that an idle worker gives back to the system.

malloc keeps what is freed inside its heaps. `malloc_trim` gives whole free pages back, wherever they lie. It locks one heap
at a time, for about a millisecond of each 10 MB, so it is called when no task has come for a second.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

__all__ = ["trim_heaps"]


def _no_trim(_keep_nbytes: int) -> int:
    """Another C library than glibc: it has no such function."""
    return 0


_malloc_trim: Callable[[int], Any] = getattr(ctypes.CDLL(None), "malloc_trim", _no_trim)


def trim_heaps() -> None:
    """Give free pages back to the system. Other threads that need memory meanwhile wait for a moment."""
    _malloc_trim(0)
