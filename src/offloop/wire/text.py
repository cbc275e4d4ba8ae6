"""A worker's text made safe to print, in a terminal or a log file: whoever wrote it may be an enemy.

It runs on the event loop, so no step is taken for each character: an enemy chooses text in which every one needs escaping.
"""

from __future__ import annotations

__all__ = ["printable"]

_NEWLINE_SIGN = "\u2424"  # printable; where a worker wrote this sign itself, it becomes a line break, which harms nobody


def printable(text: str, limit: int) -> str:
    """At most `limit` characters of the text, with line breaks as they are and all else that is not printable escaped."""
    capped = text if len(text) <= limit else text[:limit] + " [cut]"
    on_one_line = capped.replace("\n", _NEWLINE_SIGN)
    if on_one_line.isprintable():
        return capped
    return repr(on_one_line)[1:-1].replace(_NEWLINE_SIGN, "\n")  # repr escapes exactly what is not printable
