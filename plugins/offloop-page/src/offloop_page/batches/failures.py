"""Why a file failed, in words for users, with what they can do."""

from __future__ import annotations

import msgspec

import offloop
from offloop import OffloopError, TaskFailed

__all__ = ["Failure", "failure_of"]


class Failure(msgspec.Struct, frozen=True):
    """The reason of one failure."""

    code: str
    """Stable identifier."""

    detail: str
    """One sentence that says what happened."""

    advice: str
    """One sentence that says what to do."""

    can_retry: bool
    """Whether the same file may succeed if it is sent again."""


_LATER = "Retry in a moment."
_OTHER_FILE = "Open the file in an image editor and save it again, or leave it out."
_SMALLER = "Choose smaller widths, or send a smaller picture."

_BY_CODE: dict[str, tuple[str, str]] = {
    "unsupported_format": ("This is no picture in a format that the server reads.", "Send JPEG, PNG, WebP, AVIF, GIF or TIFF."),
    "corrupt_source": ("The picture is damaged.", _OTHER_FILE),
    "too_many_pixels": ("The picture has more pixels than the server accepts.", "Send a smaller picture."),
    "too_many_pages": ("The animation has more frames than the server accepts.", "Send a shorter animation."),
    "output_too_large": (
        "The result is larger than your limit at the lowest quality.",
        "Choose smaller widths, or raise the limit.",
    ),
    "memory_limit": ("The picture needed more memory than the server may use.", _SMALLER),
}

_BY_TYPE: dict[type[OffloopError], tuple[str, str, str, bool]] = {
    offloop.SourceTooLarge: ("too_large", "The file is larger than the server accepts.", "Send a smaller file.", False),
    offloop.MemoryLimitExceeded: (
        "no_memory",
        "The server has not enough memory for this picture now.",
        "Remove results that you do not need, or retry later.",
        True,
    ),
    offloop.QueueFull: ("queue_full", "Too many pictures are waiting.", _LATER, True),
    offloop.QueueTimeout: ("queue_timeout", "The picture waited too long.", _LATER, True),
    offloop.TaskTimeout: ("timeout", "The conversion took too long and was stopped.", f"{_SMALLER} AVIF takes longest.", True),
    offloop.WorkerDied: (
        "worker_died",
        "The process that converted this picture ended.",
        "Retry once; if it fails again, leave the file out.",
        True,
    ),
    offloop.TaskQuarantined: (
        "quarantined",
        "This picture ended several processes and is refused.",
        "Leave the file out.",
        False,
    ),
    offloop.PoolClosed: ("closed", "The server was stopped.", "Retry when the page is connected again.", True),
    offloop.PluginError: (
        "plugin",
        "A part of the server that this conversion needs cannot be used.",
        "Tell the operator of the server.",
        True,
    ),
    offloop.InvalidTask: ("invalid", "The settings do not fit this picture.", "Change the settings and send it again.", False),
}


def failure_of(error: OffloopError) -> Failure:
    """Returns the failure for an error. It has no text of a worker beyond what the plugins wrote for clients."""
    if isinstance(error, TaskFailed):
        detail, advice = _BY_CODE.get(error.code, (error.public_message, _OTHER_FILE))
        return Failure(error.code, detail, advice, can_retry=False)
    if type(error) is offloop.MemoryLimitExceeded and not error.is_temporary:
        return Failure("memory_limit", *_BY_CODE["memory_limit"], can_retry=False)
    for kind in type(error).__mro__:
        if kind in _BY_TYPE:
            code, detail, advice, can_retry = _BY_TYPE[kind]
            if kind is offloop.InvalidTask:
                detail = error.public_message
            return Failure(code, detail, advice, can_retry)
    return Failure("internal", "The server failed.", "Tell the operator of the server.", can_retry=True)
