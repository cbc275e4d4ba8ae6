"""What a scripted worker can do with a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from ..wire.messages import FromWorker

__all__ = ["Answer", "Die", "Refuse", "Send", "Stall", "Step"]


class Answer(msgspec.Struct, frozen=True):
    """Succeed, with these bytes as the result; to a task that has a `to`, write them there."""

    data: bytes = b""
    info: Mapping[str, Any] = {}
    """What the user finds in `result.info`."""

    shape: tuple[int, ...] | None = None
    """(height, width, bands): the bytes are samples, and `result.array()` works."""

    dtype: str = "|u1"
    """Of samples."""


class Refuse(msgspec.Struct, frozen=True):
    """Fail: the caller gets `TaskFailed` with this code (or `InvalidTask`, for the code "invalid_task")."""

    code: str
    message: str = "as scripted"


class Die(msgspec.Struct, frozen=True):
    """End: the caller gets `WorkerDied`."""

    exit_code: int = 1
    """Negative for a signal: -11 is SIGSEGV."""

    begun: bool = True
    """False: it dies before it begins with the task, which is then given to another worker, once."""

    stderr: str = ""
    """Its last words."""


class Stall(msgspec.Struct, frozen=True):
    """Do not answer until told to stop."""

    obey: bool = True
    """False: not even then; it has to be killed."""


class Send(msgspec.Struct, frozen=True):
    """Send these, whatever they are, and wait for the next task: for what a worker should never say."""

    messages: tuple[FromWorker | bytes, ...]
    """Messages of `offloop.wire.messages`, or bytes for the stream as they are."""


Step: TypeAlias = Answer | Refuse | Die | Stall | Send
