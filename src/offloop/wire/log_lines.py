"""Log records in a worker's output.

The output of a worker is text, a line at a time. A line of a log record begins with a marker and its level; each other line is
plain output, which counts as INFO. A plain line may forge a marker: it gains a level and nothing else.
"""

from __future__ import annotations

import re

__all__ = ["LEVEL_OF_PLAIN_OUTPUT", "log_lines", "split_levels", "without_markers"]

LEVEL_OF_PLAIN_OUTPUT = 20  # logging.INFO
_MAX_LEVEL = 50  # logging.CRITICAL
_MARKER = re.compile(rb"\x1e([0-9]{2}) ")
_NAMES = {10: b"DEBUG ", 20: b"INFO ", 30: b"WARNING ", 40: b"ERROR ", 50: b"CRITICAL "}


def log_lines(level: int, text: str) -> bytes:
    """The lines of a record, each with the record's level, which is cut to 1 to 50."""
    start = b"\x1e%02d " % min(max(level, 1), _MAX_LEVEL)
    return b"".join(start + line + b"\n" for line in text.encode("utf-8", "backslashreplace").splitlines())


def split_levels(line: bytes) -> list[tuple[int, bytes]]:
    """The parts of one line with their levels: unfinished plain output may stand before a record."""
    before, *records = _MARKER.split(line)
    parts = [(LEVEL_OF_PLAIN_OUTPUT, before)] if before else []
    levels, texts = records[::2], records[1::2]
    return parts + [(min(max(int(level), 1), _MAX_LEVEL), text) for level, text in zip(levels, texts, strict=True) if text]


def without_markers(output: bytes) -> bytes:
    """The output with the name of the level instead of each marker, to be shown as one text."""
    return _MARKER.sub(lambda marker: _NAMES.get(int(marker[1]), b""), output)
