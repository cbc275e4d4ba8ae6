"""How sizes, names and errors are written for a person, each on one line."""

from __future__ import annotations

import os

__all__ = ["one_line", "printable", "shown", "size"]

_LONGEST_ERROR = 400  # characters: the worker's last words can be pages


def size(nbytes: int) -> str:
    """Bytes as "812 bytes", "83 kB", "1.2 MB", "2.1 GB"."""
    if nbytes < 1000:  # noqa: PLR2004 (the first prefix)
        return f"{nbytes} bytes"
    scaled, unit = nbytes / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if scaled < 1000:  # noqa: PLR2004 (the next prefix)
            break
        scaled, unit = scaled / 1000, larger
    return f"{scaled:.1f} {unit}" if scaled < 10 else f"{scaled:.0f} {unit}"  # noqa: PLR2004 (two digits say enough)


def shown(path: str | os.PathLike[str]) -> str:
    """A file's name, made safe to print: any byte can be in one, a terminal's escape sequences too."""
    return printable(os.fsdecode(path))


def one_line(error: BaseException) -> str:
    """What an error and its notes say, on one line and cut where it gets long."""
    said = "; ".join(filter(None, [str(error), *getattr(error, "__notes__", ())]))
    text = " ".join(printable(part) for part in said.split()) or type(error).__name__
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}..."


def printable(text: str) -> str:
    """Text with escapes in place of characters that a terminal would not print."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
