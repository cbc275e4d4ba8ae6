"""Writes log records and warnings of plugin code to the worker's output, with their levels.

The supervisor reads the output and logs each line in the server, see `offloop.wire.log_lines`. If plugin code configures
`logging` with `force=True`, or uses a logger that does not propagate, its records are plain output.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress

from ..wire.log_lines import log_lines
from .failures import fill_line_cache

__all__ = ["forward_logs"]

_OUTPUT_FD = 2


class _OutputHandler(logging.Handler):
    """Log handler that writes each record to the output in one piece."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            fill_line_cache()
        try:
            rest = log_lines(record.levelno, self.format(record))
        except Exception:  # an argument that cannot be formatted
            self.handleError(record)
            return
        with suppress(OSError):  # the processor closed it
            while rest:
                rest = rest[os.write(_OUTPUT_FD, rest) :]


def forward_logs(level: int) -> None:
    """Write records of this level and above, and all warnings that pass the filters, to the output."""
    handler = _OutputHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=True)
