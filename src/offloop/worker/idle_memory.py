"""Returns free memory of an idle worker to the system.

malloc keeps freed memory in its heaps. `malloc_trim` returns all free whole pages to the system. It locks one heap at a time,
for about a millisecond per 10 MB, so it is called when the worker has been idle for a second.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

__all__ = ["trim_heaps"]


def _no_trim(_keep_nbytes: int) -> int:
    """Replaces `malloc_trim` where the C library is not glibc."""
    return 0


_malloc_trim: Callable[[int], Any] = getattr(ctypes.CDLL(None), "malloc_trim", _no_trim)


def trim_heaps() -> None:
    """Return free pages to the system. Other threads that allocate memory meanwhile have to wait."""
    _malloc_trim(0)
