"""Translation of libvips errors into `TaskFailed` codes and `MemoryError`."""

from __future__ import annotations

import resource
from collections.abc import Iterable

import pyvips

from offloop.errors import TaskFailed

from ..headers.formats import FORMATS, FormatName

__all__ = [
    "corrupt_source",
    "is_corrupt_source",
    "is_from_decoder",
    "is_memory_limited",
    "is_out_of_memory",
    "translate_error",
    "unreadable_source",
]

MAX_LINES = 2  # of a message; libvips adds a line for each layer that failed, and the first lines name the cause
MAX_LINE_LENGTH = 200  # characters; a file can put text of its own into a decoder's message
_ENCODER_WORDS = ("save", "encod")
_MEMORY_ERRORS = (  # texts of libvips, libpng, libjpeg, libheif, libtiff, and of glib, which needs a stack for a thread
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
_AMBIGUOUS_ERRORS = (  # texts of encoders that do not tell the reason of a failure
    "webpsave: unable to encode",
    "encoder plugin generated an error",
    "quantisation failed",
)
# libheif reports a file larger than it declares as a memory error with the first text, and libtiff an empty directory and a tag
# longer than the file with the others
_DAMAGE = ("security limit exceeded", "(0 elements of", 'out of memory reading of "')
_UNSUPPORTED = ("bad labq format",)  # a TIFF in Lab of another coding than that of libvips
_IGNORED_PREFIX = "source: bad seek"  # one line for each failed read of a parser, which says nothing about the error


def is_out_of_memory(error: pyvips.Error) -> bool:
    """Whether an allocation failed, in any line of the error, because the other lines are consequences of it."""
    texts = _MEMORY_ERRORS + _AMBIGUOUS_ERRORS if is_memory_limited() else _MEMORY_ERRORS
    lines = [line.lower() for line in _lines(error)]
    return any(text in line for line in lines for text in texts if not any(damage in line for damage in _DAMAGE))


def is_memory_limited() -> bool:
    """Whether the private memory of the task is limited."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0] != resource.RLIM_INFINITY


def corrupt_source(source: FormatName, error: pyvips.Error | None = None) -> TaskFailed:
    """Returns the failure for a source that has the signature of a format but cannot be decoded."""
    message = _message(error) if error is not None else ""
    return TaskFailed("corrupt_source", f"the source is not a readable {source} file" + (f": {message}" if message else ""))


def unreadable_source(source: FormatName, error: pyvips.Error) -> TaskFailed:
    """Returns the failure for a source whose header libvips refuses: damage, or a kind of file that libvips does not read."""
    if any(text in str(error.detail) for text in _UNSUPPORTED):
        return TaskFailed("unsupported_format", f"libvips does not read this kind of {source} file: {_message(error)}")
    return corrupt_source(source, error)


def is_corrupt_source(failure: Exception) -> bool:
    """Whether a failure has the code "corrupt_source"."""
    return isinstance(failure, TaskFailed) and failure.code == "corrupt_source"


def translate_error(error: pyvips.Error, source: FormatName | None) -> TaskFailed | MemoryError:
    """Returns the failure for an error during evaluation.

    Pixels are decoded while they are processed, so that only the text of the error tells a corrupt source from other errors.
    """
    if is_out_of_memory(error):
        return MemoryError(_message(error))
    if source is not None and any(is_from_decoder(line, source) for line in _lines(error)):
        return corrupt_source(source, error)
    return TaskFailed("processing_failed", _message(error) or str(error.message)[:MAX_LINE_LENGTH])


def is_from_decoder(line: str, source: FormatName) -> bool:
    """Whether a line of an error is from the decoder of the source."""
    domain, _, text = line.partition(":")
    if any(word in domain.lower() or word in text.lower() for word in _ENCODER_WORDS):
        return False
    return domain.startswith(FORMATS[source].error_domains)


def _message(error: pyvips.Error) -> str:
    return "; ".join(_distinct(line[:MAX_LINE_LENGTH] for line in _lines(error)))


def _lines(error: pyvips.Error) -> list[str]:
    lines = ["".join(filter(str.isprintable, line)).strip() for line in str(error.detail).splitlines()]
    return [line for line in lines if line and not line.startswith(_IGNORED_PREFIX)]


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))[:MAX_LINES]
