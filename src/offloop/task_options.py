"""Options of one task, checked once: what `Pool.run` takes beside the source and the pipeline."""

from __future__ import annotations

import os
from types import EllipsisType

import msgspec

from .core.model.task import StreamLimits
from .runtime.files.output_files import OutputFile, destination_path
from .settings import PoolSettings, check_memory_limit, check_order, check_retries, check_seconds

__all__ = ["TaskOptions"]


class TaskOptions(msgspec.Struct, frozen=True):
    """Checked options of one task, with the pool's defaults filled in."""

    timeout_s: float | None  # seconds that the task may run; None: no limit
    queue_timeout_s: float | None  # seconds that the task may wait; None: no limit
    retries: int  # number of retries after its worker died
    priority: int  # from -10 to 10
    tenant: str | None  # name of the tenant; None: the task belongs to no tenant
    output: OutputFile | None  # file for the result; None: the result stays in memory
    memory_limit_bytes: int | None = None  # limit of the task's private memory in bytes; None: it follows from the budget
    credit: int = 0  # number of outputs that the task may hand over before its end, until its receiver grants more
    previews: int = 0  # number of previews that the task may hand over beside these outputs
    stream: StreamLimits | None = None  # time limits of a stream; None: the task is no stream

    @classmethod
    def checked(
        cls,
        settings: PoolSettings,
        *,
        timeout: float | EllipsisType | None,
        queue_timeout: float | None,
        retries: int | None,
        priority: int,
        tenant: str | None,
        to: str | os.PathLike[str] | None,
        memory_limit: int | str | None = None,
    ) -> TaskOptions:
        """Check the arguments of a call.

        Args:
            timeout: seconds; None: no limit; `...`: the pool's default. Of no effect in an inline pool.
            retries: None: the pool's default.
            memory_limit: bytes, or as in "400MiB"; None: no limit of its own.

        Raises:
            ValueError, TypeError: naming the option, the value and the range.
            InvalidTask: `to` cannot be the path of a file.
        """
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
        return cls(timeout, queue_timeout, retries, priority, tenant, output, limit_bytes)

    def with_file(self, path: str | os.PathLike[str]) -> TaskOptions:
        """Return these options for a task whose result goes into a file.

        Raises:
            InvalidTask: the path cannot be that of a file.
        """
        return msgspec.structs.replace(self, output=OutputFile(destination_path(path)))

    def with_previews(self, previews: int) -> TaskOptions:
        """Return these options for a task whose previews are received."""
        return self if previews == self.previews else msgspec.structs.replace(self, previews=previews)

    def for_stream(
        self, settings: PoolSettings, credit: int, frame_timeout: float | EllipsisType | None, idle_timeout: float | None
    ) -> TaskOptions:
        """Return these options for a task whose outputs are received while it runs.

        Args:
            settings: the pool's settings.
            credit: number of outputs that may be unread.
            frame_timeout: seconds for each output; None: no limit; `...`: the pool's default `timeout`.
            idle_timeout: seconds for which a worker waits for a reader; None: no limit.

        Raises:
            ValueError, TypeError: naming the option, the value and the range.
        """
        if settings.inline:
            frame_timeout = None
        if frame_timeout is ...:
            frame_timeout = settings.timeout
        elif frame_timeout is not None:
            check_seconds("frame_timeout", frame_timeout)
        if idle_timeout is not None:
            check_seconds("idle_timeout", idle_timeout)
        return msgspec.structs.replace(self, credit=credit, stream=StreamLimits(frame_timeout, idle_timeout))
