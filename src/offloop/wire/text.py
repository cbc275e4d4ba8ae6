"""Escapes text of a worker for terminals and log files, because a worker is not trusted.

It runs on the event loop, so no Python code runs per character, because a hostile worker can send text in which every character
needs escaping.
"""

from __future__ import annotations

__all__ = ["printable"]

_NEWLINE_SIGN = "\u2424"  # printable; if a worker's text contains this sign, it becomes a line break, which is harmless


def printable(text: str, limit: int) -> str:
    """Returns at most `limit` characters of the text. Line breaks stay; all other unprintable characters are escaped."""
    capped = text if len(text) <= limit else text[:limit] + " [cut]"
    on_one_line = capped.replace("\n", _NEWLINE_SIGN)
    if on_one_line.isprintable():
        return capped
    return repr(on_one_line)[1:-1].replace(_NEWLINE_SIGN, "\n")  # repr escapes exactly what is not printable
