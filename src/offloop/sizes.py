"""Sizes in bytes that users write as a number or as text: "512MB", "2GiB"."""

from __future__ import annotations

import re

__all__ = ["named_size", "parse_size"]

_MAX_SIZE_LENGTH = 32  # characters of a size in text

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?:(?P<prefix>[KMGT])(?P<binary>i?))?B?", re.IGNORECASE)


def parse_size(size: int | str) -> int:
    """Number of bytes, from a number or a text such as "512MB", "2GiB" or "1.5 GiB".

    Raises:
        ValueError: the text is not a size.
        TypeError: the value is neither a whole number nor a text.
    """
    if isinstance(size, int):
        return size
    if not isinstance(size, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
        raise TypeError(f"{size!r} is not a size; write bytes as a whole number, or as in '512MB' or '2GiB'")
    match = _SIZE.fullmatch(size.strip())
    if match is None or len(size) > _MAX_SIZE_LENGTH:
        raise ValueError(f"{size!r} is not a size; write bytes as a number, or as in '512MB' or '2GiB'")
    exponent = " KMGT".index((match["prefix"] or " ").upper())
    return int(float(match["number"]) * (1024 if match["binary"] else 1000) ** exponent)


def named_size(name: str, size: int | str) -> int:
    """As `parse_size`, with the name of the setting in the error."""
    try:
        return parse_size(size)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name}={size!r}: {error}") from None
