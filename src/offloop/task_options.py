"""Options of one task, checked once: what `Pool.run` takes beside the source and the pipeline."""

from __future__ import annotations

import os
from types import EllipsisType

import msgspec

from .runtime.files.output_files import OutputFile, destination_path
from .settings import PoolSettings, check_order, check_retries, check_seconds

__all__ = ["TaskOptions"]


class TaskOptions(msgspec.Struct, frozen=True):
    """Checked options of one task, with the pool's defaults filled in."""

    timeout_s: float | None  # seconds that the task may run; None: no limit
    queue_timeout_s: float | None  # seconds that the task may wait; None: no limit
    retries: int  # number of retries after its worker died
    priority: int  # from -10 to 10
    tenant: str | None  # name of the tenant; None: the task belongs to no tenant
    output: OutputFile | None  # file for the result; None: the result stays in memory

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
    ) -> TaskOptions:
        """Check the arguments of a call.

        Args:
            timeout: seconds; None: no limit; `...`: the pool's default.
            retries: None: the pool's default.

        Raises:
            ValueError, TypeError: naming the option, the value and the range.
            InvalidTask: `to` cannot be the path of a file.
        """
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
        return cls(timeout, queue_timeout, retries, priority, tenant, output)
