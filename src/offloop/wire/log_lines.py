"""Format of log records in a worker's output.

The output of a worker consists of lines of text. A line of a log record starts with a marker that contains the level. All other
lines are plain output, with the level INFO. Plain output may contain a forged marker, which only changes its level.
"""

from __future__ import annotations

import re

__all__ = ["LEVEL_OF_PLAIN_OUTPUT", "log_lines", "split_levels", "without_markers"]

LEVEL_OF_PLAIN_OUTPUT = 20  # logging.INFO
_MAX_LEVEL = 50  # logging.CRITICAL
_MARKER = re.compile(rb"\x1e([0-9]{2}) ")
_NAMES = {10: b"DEBUG ", 20: b"INFO ", 30: b"WARNING ", 40: b"ERROR ", 50: b"CRITICAL "}  # names of levels


def log_lines(level: int, text: str) -> bytes:
    """Returns the lines of a record, each with its marker. The level is limited to 1 to 50."""
    start = b"\x1e%02d " % min(max(level, 1), _MAX_LEVEL)
    return b"".join(start + line + b"\n" for line in text.encode("utf-8", "backslashreplace").splitlines())


def split_levels(line: bytes) -> list[tuple[int, bytes]]:
    """Split a line into pieces with their levels, because a record may follow unfinished plain output on the same line."""
    before, *records = _MARKER.split(line)
    pieces = [(LEVEL_OF_PLAIN_OUTPUT, before)] if before else []
    levels, texts = records[::2], records[1::2]
    return pieces + [(min(max(int(level), 1), _MAX_LEVEL), text) for level, text in zip(levels, texts, strict=True) if text]


def without_markers(output: bytes) -> bytes:
    """Returns the output with each marker replaced by the name of its level, for display."""
    return _MARKER.sub(lambda marker: _NAMES.get(int(marker[1]), b""), output)
