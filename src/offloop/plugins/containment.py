"""Containment of exceptions that plugin code raises in the server.

`probe`, `estimate` and `check` of a plugin may raise any exception, also `SystemExit`, which would end the pool or the event
loop. An exception of plugin code is never a cancellation, because plugin code never awaits.
"""

from __future__ import annotations

import threading

__all__ = ["reraise_interrupt", "text_of"]


def reraise_interrupt(error: BaseException) -> None:
    """Raise a `KeyboardInterrupt` of the main thread again, because it may be the user's Ctrl-C. Ignore all other
    exceptions."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def text_of(error: BaseException) -> str:
    """Returns the error's type and text; only its type if `str(error)` raises."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__
