"""Options of one task: those that all calls of a pool share, and the same ones checked, with the pool's defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from types import EllipsisType
from typing import Any, TypedDict, cast

import msgspec

from .core.model.task import StreamLimits
from .runtime.files.output_files import OutputFile, destination_path
from .settings import PoolSettings, check_labels, check_memory_limit, check_order, check_retries, check_seconds

__all__ = ["StreamKeywords", "TaskKeywords", "TaskOptions"]

_FOR_A_STREAM = "frame_timeout"  # the time limit of a stream is one for each output
_NO_LABELS: dict[str, str] = {}


class StreamKeywords(TypedDict, total=False):
    """Options that every call of a pool takes as keyword arguments. For each task of a batch they are the same."""

    queue_timeout: float | None
    """Seconds that the task may wait for memory and for a worker. None, the default: no limit."""

    retries: int | None
    """Number of retries if the task's worker dies, before the first output of a stream. Default: the pool's."""

    priority: int
    """-10 to 10. Each step has a head start of ten seconds in the queue over the next lower one. Default: 0."""

    tenant: str | None
    """Name of the tenant. Tenants with waiting tasks share the workers' time by their weights. None, the default: none."""

    memory_limit: int | str | None
    """Private memory that the task may have in its worker, in bytes or as in "400MiB"; beyond it, it fails with the code
    "memory_limit". Addresses count, so each thread that it starts takes 8 MB. None, the default: the pool decides."""

    labels: Mapping[str, str] | None
    """Names and texts, such as `{"request_id": "4711"}`: up to 16, of up to 64 and 256 characters. They are in the events and
    errors of the task, in each log line that its worker writes for it, and in `Context.labels`. Default: none."""


class TaskKeywords(StreamKeywords, total=False):
    """Options of a call with one result: `run`, `map`, `run_many`, `call`, `map_call`. All have a default.

    For a wrapper: `async def thumbnail(pool: Pool, data: bytes, **options: Unpack[TaskKeywords]) -> Result`.
    """

    timeout: float | EllipsisType | None
    """Seconds that the task may run, from its start in a worker; None: no limit. Default: the function's, or the pool's."""


class TaskOptions(msgspec.Struct, frozen=True):
    """Checked options of one task, with the pool's defaults filled in."""

    timeout_s: float | None  # seconds that the task may run; None: no limit
    queue_timeout_s: float | None  # seconds that the task may wait; None: no limit
    retries: int  # number of retries after its worker died
    priority: int  # from -10 to 10
    tenant: str | None  # name of the tenant; None: the task belongs to no tenant
    output: OutputFile | None  # file for the result; None: the result stays in memory
    memory_limit_bytes: int | None = None  # limit of the task's private memory in bytes; None: it follows from the budget
    labels: dict[str, str] = _NO_LABELS  # labels of the task, by name
    credit: int = 0  # number of outputs that the task may hand over before its end, until its receiver grants more
    previews: int = 0  # number of previews that the task may hand over beside these outputs
    stream: StreamLimits | None = None  # time limits of a stream; None: the task is no stream

    @classmethod
    def checked(
        cls, settings: PoolSettings, call: str, keywords: TaskKeywords, *, to: str | os.PathLike[str] | None = None
    ) -> TaskOptions:
        """Check the options of a call.

        Args:
            settings: the pool's settings.
            call: name of the call, for an error.
            keywords: the options as they were given. A timeout has no effect in an inline pool.
            to: path of the file for the result; None: the result stays in memory.

        Raises:
            ValueError, TypeError: naming the option, the value and the range; or the option is not known.
            InvalidTask: `to` cannot be the path of a file.
        """
        try:
            return cls._checked(settings, to, **keywords)
        except TypeError:
            _check_names(call, keywords, TaskKeywords)
            raise

    @classmethod
    def for_stream(
        cls,
        settings: PoolSettings,
        call: str,
        keywords: StreamKeywords,
        *,
        credit: int,
        frame_timeout: float | EllipsisType | None,
        idle_timeout: float | None,
    ) -> TaskOptions:
        """Check the options of a call whose outputs are received while the task runs.

        Args:
            settings, call, keywords: as for `checked`.
            credit: number of outputs that may be unread.
            frame_timeout: seconds for each output; None: no limit; `...`: the pool's default `timeout`.
            idle_timeout: seconds for which a worker waits for a reader; None: no limit.

        Raises:
            ValueError, TypeError: as `checked`.
        """
        _check_names(call, keywords, StreamKeywords)
        options = cls.checked(settings, call, {**keywords, "timeout": None})
        if settings.inline:
            frame_timeout = None
        if frame_timeout is ...:
            frame_timeout = settings.timeout
        elif frame_timeout is not None:
            check_seconds("frame_timeout", frame_timeout)
        if idle_timeout is not None:
            check_seconds("idle_timeout", idle_timeout)
        return msgspec.structs.replace(options, credit=credit, stream=StreamLimits(frame_timeout, idle_timeout))

    @classmethod
    def _checked(
        cls,
        settings: PoolSettings,
        to: str | os.PathLike[str] | None,
        *,
        timeout: float | EllipsisType | None = ...,
        queue_timeout: float | None = None,
        retries: int | None = None,
        priority: int = 0,
        tenant: str | None = None,
        memory_limit: int | str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> TaskOptions:
        if settings.inline:
            timeout = None
        if timeout is ...:
            timeout = settings.timeout
        elif timeout is not None:
            check_seconds("timeout", timeout)
        if queue_timeout is not None:
            check_seconds("queue_timeout", queue_timeout)
        if priority or tenant is not None:
            check_order(priority, tenant)
        retries = settings.retries if retries is None else check_retries(retries)
        output = None if to is None else OutputFile(destination_path(to))
        limit_bytes = None if memory_limit is None else check_memory_limit(memory_limit)
        checked_labels = check_labels(labels) if labels else _NO_LABELS
        return cls(timeout, queue_timeout, retries, priority, tenant, output, limit_bytes, checked_labels)

    def with_file(self, path: str | os.PathLike[str]) -> TaskOptions:
        """Return these options for a task whose result goes into a file.

        Raises:
            InvalidTask: the path cannot be that of a file.
        """
        return msgspec.structs.replace(self, output=OutputFile(destination_path(path)))

    def with_previews(self, previews: int) -> TaskOptions:
        """Return these options for a task whose previews are received."""
        return self if previews == self.previews else msgspec.structs.replace(self, previews=previews)


def _check_names(call: str, keywords: Mapping[str, Any], known: Any) -> None:
    """Raise a TypeError if there is an option of another name."""
    names = cast("frozenset[str]", known.__optional_keys__)
    unknown = sorted(keywords.keys() - names)
    if unknown:
        close = [_FOR_A_STREAM] if unknown[0] == "timeout" else get_close_matches(unknown[0], names, 1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; options are {', '.join(sorted(names))}"
        raise TypeError(f"{call}() got an unexpected keyword argument {unknown[0]!r}{hint}")
