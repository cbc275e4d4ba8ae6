"""What libvips complains of, as errors that a caller can branch on."""

from __future__ import annotations

import resource
from collections.abc import Iterable

import pyvips

from offloop.errors import TaskFailed

from ..headers.formats import FORMATS, FormatName

__all__ = ["corrupt_source", "explain", "is_corrupt", "is_memory_limited", "lacks_memory"]

MAX_LINES = 2  # libvips adds a line for every layer that gave up; the first ones say what happened
MAX_LINE_LENGTH = 200  # characters; a file can put its own text into a decoder's message
_SAVING = ("save", "encod")
_NO_MEMORY = (  # the words of libvips and libpng, libjpeg, libheif, libtiff, and of glib, which needs a stack for a thread
    "out of memory",
    "insufficient memory",
    "memory allocation",
    "allocate memory",
    "failed to allocate",
    "not enough memory",
    "no space for",
    "picture memory error",
    "creating thread: resource temporarily unavailable",
)
_MAY_BE_NO_MEMORY = ("webpsave: unable to encode", "encoder plugin generated an error", "quantisation failed")
_TOO_LARGE = "security limit exceeded"  # libheif calls it a lack of memory that a file holds more than it declares
_NOISE = "source: bad seek"  # once for every place that a parser looked at in vain


def lacks_memory(error: pyvips.Error) -> bool:
    """Whether an allocation failed, wherever that was: all else that was said then is a consequence of it."""
    words = _NO_MEMORY + _MAY_BE_NO_MEMORY if is_memory_limited() else _NO_MEMORY  # encoders do not tell why they gave up
    lines = [line.lower() for line in _lines(error)]
    return any(word in line for line in lines for word in words if _TOO_LARGE not in line)


def is_memory_limited() -> bool:
    """Whether the task may only have so much private memory."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def corrupt_source(source: FormatName, error: pyvips.Error | None = None) -> TaskFailed:
    """The failure of a source that carries a format's signature and cannot be read as that format."""
    said = _said(error) if error is not None else ""
    return TaskFailed("corrupt_source", f"the source is no readable {source} file" + (f": {said}" if said else ""))


def is_corrupt(failure: Exception) -> bool:
    """Whether it is the failure of a source that cannot be read."""
    return isinstance(failure, TaskFailed) and failure.code == "corrupt_source"


def explain(error: pyvips.Error, source: FormatName | None) -> TaskFailed | MemoryError:
    """The failure that an error during evaluation amounts to.

    Pixels are decoded while they are processed, so that only the wording tells a broken source from anything else.
    """
    if lacks_memory(error):
        return MemoryError(_said(error))
    if source is not None and any(_is_decoder(line, source) for line in _lines(error)):
        return corrupt_source(source, error)
    return TaskFailed("processing_failed", _said(error) or str(error.message)[:MAX_LINE_LENGTH])


def _is_decoder(line: str, source: FormatName) -> bool:
    domain, _, complaint = line.partition(":")
    if any(word in domain.lower() or word in complaint.lower() for word in _SAVING):
        return False
    return domain.startswith(FORMATS[source].error_domains)


def _said(error: pyvips.Error) -> str:
    return "; ".join(_distinct(line[:MAX_LINE_LENGTH] for line in _lines(error)))


def _lines(error: pyvips.Error) -> list[str]:
    lines = ["".join(filter(str.isprintable, line)).strip() for line in str(error.detail).splitlines()]
    return [line for line in lines if line and not line.startswith(_NOISE)]


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))[:MAX_LINES]
