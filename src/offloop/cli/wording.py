"""Formats sizes, durations, names and errors for terminals, each on one line."""

from __future__ import annotations

import os

__all__ = ["duration", "one_line", "printable", "shown", "size"]

_MAX_ERROR_LENGTH = 400  # maximum characters of an error, because a note with a worker's output can be pages long


def size(nbytes: int) -> str:
    """Returns a number of bytes as "812 bytes", "83 kB", "1.2 MB", "2.1 GB"."""
    if nbytes < 1000:  # noqa: PLR2004 (the first prefix)
        return f"{nbytes} bytes"
    scaled, unit = nbytes / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if scaled < 1000:  # noqa: PLR2004 (the next prefix)
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:.1f} {unit}" if scaled < 10 else f"{scaled:.0f} {unit}"  # noqa: PLR2004 (two digits are enough)


def duration(seconds: float) -> str:
    """Returns a number of seconds as "7 s", "3 min", "2.5 h"."""
    if seconds < 99.5:  # noqa: PLR2004 (two digits are enough)
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


def shown(path: str | os.PathLike[str]) -> str:
    """Returns a path that is safe to print, because a path can contain any byte, also a terminal's escape sequences."""
    return printable(os.fsdecode(path))


def one_line(error: BaseException) -> str:
    """Returns the text of an error and its notes on one line of limited length."""
    full_text = "; ".join(filter(None, [str(error), *getattr(error, "__notes__", ())]))
    text = " ".join(printable(part) for part in full_text.split()) or type(error).__name__
    return text if len(text) <= _MAX_ERROR_LENGTH else f"{text[:_MAX_ERROR_LENGTH]}..."


def printable(text: str) -> str:
    """Returns the text with unprintable characters replaced by escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
