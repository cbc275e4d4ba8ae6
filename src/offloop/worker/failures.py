"""Describes exceptions of plugin code for the supervisor: a code, a text and a traceback."""

from __future__ import annotations

from ..errors import InvalidTask, PluginError, TaskFailed
from ..processor import TaskCancelled
from ..wire.messages import Run

__all__ = ["describe_failure", "exception_type_of", "text_of"]

_OWN_MODULES = ("offloop.worker.", "offloop.functions.")  # their frames are left out at the start of a traceback
_MAX_TYPE_LENGTH = 200  # characters of the name of an exception's type
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

    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith(_OWN_MODULES):
        traceback = traceback.tb_next
    try:
        text = "".join(format_exception(type(error), error, traceback or error.__traceback__))[-_MAX_TEXT_NBYTES:]
    except ImportError:  # the sandbox refuses a module that the traceback of this error needs
        text = text_of(error)
    return text.encode("utf-8", "backslashreplace")[-_MAX_TEXT_NBYTES:].decode(errors="ignore")
