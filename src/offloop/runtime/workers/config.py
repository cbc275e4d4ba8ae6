"""What the host needs to know beside what the core decides by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from ...wire.messages import PluginSource
from .launcher import Launcher

__all__ = ["WorkerConfig"]


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How workers are started, and what of."""

    plugins: dict[str, PluginSource]  # by name
    nice: int | Literal["idle"]  # how much lower than the server's the workers' priority is
    launch: Launcher
    max_private_bytes: int | None  # what the system lets a worker have for itself; None: any amount
    memory_pressure: Callable[[], tuple[float, float]]  # the share of memory that is available, and of time that was stalled
