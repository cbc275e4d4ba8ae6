"""The user's logging, held at arm's length.

What is logged here is said in the middle of a decision, or while a worker's pipe is drained. A handler or filter that raises is
the user's defect; it must cost a line in the log and not the pool.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress

__all__ = ["SafeLogger"]


class SafeLogger:
    """A logger whose handlers may raise."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    @property
    def level(self) -> int:
        """The lowest level that is logged."""
        return self._logger.getEffectiveLevel()

    def log(self, level: int, message: str, *arguments: object) -> None:
        """Log a line. What a handler raises is shown as an error of its thread, as where nobody catches it."""
        try:
            self._logger.log(level, message, *arguments, stacklevel=2)
        except Exception:
            with suppress(Exception):
                sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType] (there is one)
