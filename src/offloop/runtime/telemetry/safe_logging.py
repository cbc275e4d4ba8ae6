"""Logging that survives errors in the user's log handlers.

The supervisor logs while it processes an event, or drains a worker's pipe. A handler or filter that raises is a defect of the
user's program: it may cost a log line, but not the pool.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["SafeLogger"]


class SafeLogger:
    """A logger that catches the exceptions of its handlers and filters."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    @property
    def level(self) -> int:
        """The lowest level that is logged."""
        return self._logger.getEffectiveLevel()

    def log(self, level: int, message: str, *arguments: object, extra: Mapping[str, object] | None = None) -> None:
        """Log a line; `extra` are attributes of its record. An exception of a handler goes to `sys.excepthook`, as an uncaught
        one does."""
        try:
            self._logger.log(level, message, *arguments, stacklevel=2, extra=extra)
        except Exception:
            with suppress(Exception):
                sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType] (there is a current exception)
