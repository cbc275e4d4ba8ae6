"""Steps of a scripted worker: the possible reactions to a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from ..wire.messages import FromWorker

__all__ = ["Answer", "Die", "Refuse", "Send", "Stall", "Step"]


class Answer(msgspec.Struct, frozen=True):
    """Succeed. The result is `data`; if the task has a `to`, it is written to that file."""

    data: bytes = b""
    info: Mapping[str, Any] = {}
    """The user's `result.info`."""

    shape: tuple[int, ...] | None = None
    """(height, width, bands) of samples, for which `result.array()` works. None: the bytes are not samples."""

    dtype: str = "|u1"
    """Numpy type string of the samples."""


class Refuse(msgspec.Struct, frozen=True):
    """Fail. The caller gets `TaskFailed` with this code, or `InvalidTask` for the code "invalid_task"."""

    code: str
    message: str = "as scripted"


class Die(msgspec.Struct, frozen=True):
    """End the worker. The caller gets `WorkerDied`."""

    exit_code: int = 1
    """Exit code of the worker, negative for a signal: -11 is SIGSEGV."""

    begun: bool = True
    """Whether the worker has begun the task. If not, the task is given to another worker, once."""

    stderr: str = ""
    """Text that the worker writes to stderr before it ends."""


class Stall(msgspec.Struct, frozen=True):
    """Do not answer until the task is cancelled."""

    obey: bool = True
    """Whether the worker stops when the task is cancelled. If not, it has to be killed."""


class Send(msgspec.Struct, frozen=True):
    """Send arbitrary messages or bytes, and wait for the next task. For messages that a worker must not send."""

    messages: tuple[FromWorker | bytes, ...]
    """Messages of `offloop.wire.messages`, or bytes that are sent unchanged."""


Step: TypeAlias = Answer | Refuse | Die | Stall | Send
