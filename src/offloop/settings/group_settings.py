"""Settings of a worker group: their checks. A setting that is None is the pool's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from ..sandbox import Isolation, SandboxMode
from .checks import (
    MAX_WORKERS,
    check_environment,
    check_isolation,
    check_nice,
    check_private_sources,
    check_range,
    check_recycling,
    check_sandbox,
    check_seconds,
    check_worker_range,
)

__all__ = ["WorkerGroup"]

_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)  # because names are labels of metrics and parts of log lines


class _Named(msgspec.Struct, frozen=True):
    name: str  # unique in a pool; the name of a plugin's own group overrides the settings of that group


class WorkerGroup(_Named, frozen=True, kw_only=True):
    """Workers of one kind, for `Pool(groups=[WorkerGroup("models", plugins=["onnx", "vips"], workers=1)])`.

    A task runs in the first group that has all plugins of its pipeline: first the default group, which the settings of `Pool`
    describe, then these groups in their order, then the plugins' own. Slots, restarts, recycling and scaling are a group's;
    memory, queue limits, shares of tenants and quarantine are the pool's. Without a number of workers, a group has none until
    its first task, as many as the default group at most, and none again after `idle_timeout` idle seconds.

    Every field is checked when the group is made.

    Raises:
        ValueError, TypeError: a setting is out of its range, or of the wrong type.
    """

    plugins: Sequence[str] | None = None  # plugins to load; None: those of the plugins' own group, or the default's
    workers: int | None = None  # number of workers, which are started with the pool
    min_workers: int | None = None  # instead of `workers`: workers that are kept; None: 0, it starts with its first task
    max_workers: int | None = None  # instead of `workers`: running tasks at most; None: as many as in the default group
    spares: int = 0  # ready workers beyond those for tasks, while the group has any
    idle_timeout: float | None = None  # idle seconds after which workers beyond `min_workers` are stopped
    nice: int | Literal["idle"] | None = None  # niceness of the workers relative to the server's, or "idle"
    max_tasks: int | None = None  # number of tasks after which a worker is replaced
    max_age: float | None = None  # seconds after which a worker is replaced
    max_memory: int | str | None = None  # bytes of private memory at which an idle worker is replaced, or as in "500MiB"
    load_timeout: float | None = None  # seconds in which a worker must load all plugins
    environment: Mapping[str, str | None] | None = None  # variables beside the pool's; None removes one
    isolation: Isolation | None = None  # "pool", "tenant" or "task", as `Pool(isolation=...)`
    sandbox: SandboxMode | None = None  # "auto", "strict" or "off", as `Pool(sandbox=...)`
    private_sources: bool | None = None  # whether a source is visible only to its task's worker, as `Pool(private_sources=...)`

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
            raise TypeError(f"name={self.name!r}: must be text")
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"name={self.name!r}: must be at most 64 ASCII letters, digits, and '_', '.', '-', a letter first")
        if self.plugins is not None and not _is_list_of_names(self.plugins):
            raise TypeError(f"plugins={self.plugins!r}: give a list of names of the pool's plugins")
        check_worker_range(self.workers, self.min_workers, self.max_workers, 0)
        check_range("spares", self.spares, 0, MAX_WORKERS, whole=True)
        if self.idle_timeout is not None:
            check_seconds("idle_timeout", self.idle_timeout)
        if self.nice is not None:
            check_nice(self.nice)
        check_recycling(("max_tasks", "max_age", "max_memory"), self.max_tasks, self.max_age, self.max_memory)
        if self.load_timeout is not None:
            check_seconds("load_timeout", self.load_timeout)
        check_environment(self.environment)
        if self.isolation is not None:
            check_isolation(self.isolation)
        if self.sandbox is not None:
            check_sandbox(self.sandbox)
        check_private_sources(self.private_sources)

    def range_of_workers(self, default_max: int) -> tuple[int, int]:
        """Numbers of workers that the group keeps, and has at most.

        Args:
            default_max: maximum number of workers of the default group.
        """
        if self.workers is not None:
            return self.workers, self.workers
        min_workers = self.min_workers or 0
        return min_workers, self.max_workers or max(default_max, min_workers)


def _is_list_of_names(plugins: object) -> bool:
    return isinstance(plugins, Sequence) and not isinstance(plugins, str | bytes) and all(isinstance(p, str) for p in plugins)  # pyright: ignore[reportUnknownVariableType]
