"""Describes exceptions of plugin code for the supervisor: a code, a text and a traceback."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from ..errors import InvalidTask, PluginError, TaskFailed
from ..processor import TaskCancelled
from ..wire.messages import Run

__all__ = ["describe_failure", "exception_type_of", "fill_line_cache", "keep_source_lines", "text_of"]

_OWN_MODULES = ("offloop.worker.", "offloop.functions.")  # their frames are left out at the start of a traceback
_MAX_TYPE_LENGTH = 200  # characters of the name of an exception's type
_MAX_SOURCE_NBYTES = 4 * 1024 * 1024  # of all source lines that are kept
_STANDARD_LIBRARY = os.path.dirname(os.__file__)
_sources: dict[str, bytes] = {}  # kept sources by path, until the first traceback
_MAX_TEXT_NBYTES = 24 * 1024  # maximum bytes of an error's text, and of its traceback, in UTF-8; both fit into one frame


def describe_failure(run: Run, error: BaseException) -> tuple[str, str, str | None]:
    """Returns the code, the message and the traceback of a `Failed` or `OutputFailed`."""
    code, message, traceback = "exception", "", None
    if isinstance(error, TaskCancelled):
        code = "cancelled"
    elif isinstance(error, TaskFailed):
        code, message = error.code, error.message
    elif isinstance(error, InvalidTask):
        code, message = "invalid_task", str(error)
    elif isinstance(error, MemoryError) and run.private_bytes is not None:
        code = "memory_limit"
        message = (
            f"the task needed more than the {run.private_bytes:,} bytes of private memory that it may use; that limit follows "
            "from its estimate (Plugin.estimate, or a default from the source's length) and its part of memory_limit; "
            "or it is that of the call"
        )
    elif isinstance(error, PluginError):
        code, message, traceback = f"plugin_error:{error.plugin}", error.reason, _traceback_of(error)
    else:
        message, traceback = text_of(error), _traceback_of(error)
    return _encodable(code)[:64], _encodable(message), traceback


def keep_source_lines(packages: Iterable[str]) -> None:
    """Keep the source lines of loaded modules for tracebacks, because the sandbox lets a worker read no file later.

    They are those of the packages of plugins, and of modules that are neither in the standard library nor installed: the
    program's own.
    """
    prefixes = tuple(f"{package}." for package in packages)
    left = _MAX_SOURCE_NBYTES
    for name, module in list(sys.modules.items()):
        path: Any = getattr(module, "__file__", None)
        if not isinstance(path, str) or not path.endswith(".py"):
            continue
        if not f"{name}.".startswith(prefixes) and (_is_installed(path) or name.startswith("offloop.")):
            continue
        with suppress(OSError):
            with open(path, "rb", buffering=0) as file:
                source = file.read(left + 1)
            if len(source) <= left:
                left -= len(source)
                _sources[path] = source


def fill_line_cache() -> None:
    """Give the kept sources to `linecache`. To be called before a traceback is formatted."""
    while _sources:
        path, source = _sources.popitem()
        # without a time of change, so that nothing looks whether the file is still the same
        linecache.cache[path] = (len(source), None, source.decode("utf-8", "replace").splitlines(keepends=True), path)


def _is_installed(path: str) -> bool:
    return path.startswith(_STANDARD_LIBRARY) or "site-packages" in path or "dist-packages" in path


def exception_type_of(error: BaseException) -> str:
    """Returns the name of the type of an unexpected exception, with its module unless it is a builtin one; "" for errors that
    have a code of their own."""
    if isinstance(error, TaskCancelled | TaskFailed | InvalidTask | PluginError):
        return ""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _encodable(name)[:_MAX_TYPE_LENGTH]


def text_of(error: BaseException) -> str:
    """Returns the type and the text of an exception, whose own `__str__` may fail."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # includes SystemExit, because the text of an error must not end the worker
        return f"{type(error).__name__} (its text cannot be read)"


def _encodable(text: object) -> str:
    """Returns text that UTF-8 can encode, because file names in an error's text may contain bytes that are not UTF-8."""
    return str(text)[:_MAX_TEXT_NBYTES].encode("utf-8", "backslashreplace")[:_MAX_TEXT_NBYTES].decode(errors="ignore")


def _traceback_of(error: BaseException) -> str:
    from traceback import format_exception  # noqa: PLC0415 (only failures pay for the import)

    fill_line_cache()
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith(_OWN_MODULES):
        traceback = traceback.tb_next
    try:
        text = "".join(format_exception(type(error), error, traceback or error.__traceback__))[-_MAX_TEXT_NBYTES:]
    except ImportError:  # the sandbox refuses a module that the traceback of this error needs
        text = text_of(error)
    return text.encode("utf-8", "backslashreplace")[-_MAX_TEXT_NBYTES:].decode(errors="ignore")
