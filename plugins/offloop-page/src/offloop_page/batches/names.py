"""Names of files that clients send, made safe for archives and file systems. No name is ever opened by the server."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container

__all__ = ["clean_name", "result_name", "unique_name"]

_MAX_PARTS = 8  # folders and the name
_MAX_PART_BYTES = 120  # of a part in UTF-8; file systems have 255, and a result's name gets a suffix
_FORBIDDEN = re.compile(r'[<>:"|?*]')  # characters that Windows refuses in a name
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # devices of Windows
_HIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # control characters, text direction, surrogates, line ends
_JOINERS = {"\u200c", "\u200d"}  # parts of emoji and of words in some scripts
_FALLBACK = "file"


def clean_name(name: str) -> str:
    """Returns a relative path with "/" between its parts, without "..", control characters, or names that a system refuses."""
    normal = unicodedata.normalize("NFC", name.encode(errors="replace").decode())
    parts = [_clean_part(part) for part in re.split(r"[/\\]", normal)]
    kept = [part for part in parts if part]
    return "/".join(kept[-_MAX_PARTS:]) or _FALLBACK


def result_name(name: str, suffix: str, width: int | None) -> str:
    """Returns the name of a result: the file's name with the suffix of another format, and the width if there are several."""
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.rpartition(".")
    stem = stem if dot and stem and len(ending) <= 5 else last  # noqa: PLR2004 (".jpeg", ".tiff")
    return f"{folder}{slash}{stem}{'' if width is None else f'-{width}w'}{suffix}"


def unique_name(name: str, taken: Container[str]) -> str:
    """Returns the name, or the first of "name (2)", "name (3)" whose case-folded form is not taken."""
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.rpartition(".")
    if not stem:
        stem, dot, ending = last, "", ""
    candidate, number = name, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{folder}{slash}{stem} ({number}){dot}{ending}"
    return candidate


def _clean_part(part: str) -> str:
    visible = "".join(
        character for character in part if unicodedata.category(character) not in _HIDDEN_CATEGORIES or character in _JOINERS
    )
    cleaned = _shortened(_FORBIDDEN.sub("_", visible).strip().rstrip(". "))
    if not cleaned.strip("."):
        return ""
    return f"_{cleaned}" if _RESERVED.match(cleaned) else cleaned


def _shortened(part: str) -> str:
    """Cuts a long name in front of its suffix."""
    stem, dot, ending = part.rpartition(".")
    suffix = f"{dot}{ending}" if stem and len(ending.encode()) <= 10 else ""  # noqa: PLR2004 (longer endings are no suffixes)
    stem = part[: len(part) - len(suffix)]
    room = _MAX_PART_BYTES - len(suffix.encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + suffix
