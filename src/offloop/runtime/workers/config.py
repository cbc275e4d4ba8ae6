"""Configuration of worker processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from ...sandbox import Needs, SandboxMode
from ...wire.messages import PluginSource
from .launcher import Launcher

__all__ = ["GroupConfig", "WorkerConfig"]


class GroupConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one worker group that the core does not need."""

    nice: int | Literal["idle"]  # niceness of workers relative to the server's; "idle": the idle scheduling class
    launch: Launcher  # starts a worker
    sandbox: SandboxMode = "auto"  # layers of isolation that a worker must have
    needs: Needs = Needs()  # what the sandbox allows, because plugins of the group need it
    inbox_nbytes: int | None = None  # addresses of an inbox for each worker; None: the workers map the pool's inbox


class WorkerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the runtime that the core does not need."""

    groups: dict[str, GroupConfig]  # settings by name of the worker group, with the one for small tasks

    plugins: dict[str, PluginSource]  # plugins to load, by name
    max_private_bytes: int | None  # hard limit of a worker's private memory, in bytes; None: no limit
    memory_pressure: Callable[[], tuple[float, float]]  # measures the available share of memory, and the stalled share of time
