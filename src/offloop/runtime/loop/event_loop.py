"""Detects the running event loop: asyncio (or uvloop), or trio. A pool does so once, when it is entered."""

from __future__ import annotations

import asyncio
import sys
from asyncio import _get_running_loop  # None where no asyncio loop runs

__all__ = ["find_asyncio_loop"]


def find_asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The running asyncio loop; None if the caller runs in trio, or in no loop.

    Trio's guest mode runs trio inside a callback of an asyncio loop. Both are running then, and the result is None.
    """
    loop = _get_running_loop()
    return None if loop is None or _is_in_trio() else loop


def _is_in_trio() -> bool:
    if "trio" not in sys.modules:
        return False
    import sniffio  # noqa: PLC0415 (trio depends on it; without trio it may not be installed)

    try:
        return sniffio.current_async_library() == "trio"
    except sniffio.AsyncLibraryNotFoundError:
        return False  # the caller is an asyncio callback
