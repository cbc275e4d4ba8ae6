"""Errors of plugin code that runs in the server: which of them are the plugin's own, and how they are worded.

A plugin may raise anything from `probe`, `estimate` and `check`, `SystemExit` too. In a task of the pool that would end
the pool, and in a task of asyncio the whole loop. Plugin code never awaits, so what it raises is never a cancellation either.
"""

from __future__ import annotations

import threading

__all__ = ["reraise_interrupt", "text_of"]


def reraise_interrupt(error: BaseException) -> None:
    """Raise a `KeyboardInterrupt` of the main thread again, because it may be the user's Ctrl-C. All others are contained."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def text_of(error: BaseException) -> str:
    """The error's type and text; its type alone, if making the text raises."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
