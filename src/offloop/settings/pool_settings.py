"""Settings of a pool: their checks, and their completion with defaults from the machine."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

import msgspec

from ..core.memory.allocator import PAGE_NBYTES, pages
from ..core.memory.budget import DEFAULT_WORKER_NBYTES, MIN_TASKS_NBYTES
from ..core.model.settings import FIRST_GRANT_NBYTES, AdmissionMode, CoreSettings, GroupSettings
from ..operation import DEFAULT_GROUP, SMALL_TASKS_GROUP, Plugin
from ..program import is_frozen
from ..runtime.workers.command_line import WorkerProgram
from ..sandbox import Isolation, SandboxMode
from ..sizes import named_size, parse_size
from ..system import available_cpus
from ..system.memory_barrier import is_barrier_supported
from .checks import (
    MAX_BYTES,
    MAX_WORKERS,
    check_environment,
    check_isolation,
    check_nice,
    check_private_sources,
    check_range,
    check_recycling,
    check_retries,
    check_sandbox,
    check_seconds,
    check_worker_range,
)
from .group_settings import WorkerGroup
from .memory import INBOX_SHARE, MIN_MEMORY_LIMIT, default_memory_limit, inbox_addresses, shared_memory_capacity

__all__ = ["PoolSettings", "check_room"]

_log = logging.getLogger("offloop.settings")

AdmissionName: TypeAlias = Literal["enforce", "shadow", "off"]
_T = TypeVar("_T")

_MIN_WEIGHT, _MAX_WEIGHT = 0.001, 1000
_CRASHES_PER_WORKER = 5  # default `restart_intensity`; a worker start costs 0.1 s of CPU time
_MAX_NICE = 19
_MAX_SENT_TASKS = 31  # short tasks that a worker has behind the one that it runs: half of the last messages that are read of it
_SMALL_TASKS_NICE_RATIO = 0.3  # niceness for small tasks / the others': at 2 beside 8, Linux gives nearly four times the CPU


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Arguments of `Pool(...)`. Every field is checked when the pool is made; a `ValueError` names the field, the value and
    the range."""

    workers: int | None = None  # number of workers; None: the number of usable CPUs
    min_workers: int | None = None  # instead of `workers`: workers that are kept; None beside `max_workers`: 1
    max_workers: int | None = None  # instead of `workers`: running tasks at most; None beside `min_workers`: number of CPUs
    idle_timeout: float = 30.0  # idle seconds after which workers beyond `min_workers` are stopped
    memory_limit: int | str | None = None  # bytes for the whole pool, or as in "2GiB"; None: see `default_memory_limit`
    admission: AdmissionName = "enforce"  # effect of the memory limit on tasks
    timeout: float | None = 30.0  # seconds that a task may run; None: no limit
    max_queue: int | None = None  # maximum number of waiting tasks; None: no limit
    max_queue_bytes: int | str | None = None  # maximum bytes of the sources of waiting tasks; None: no limit
    grace: float = 0.25  # seconds between telling a task or a worker to stop and SIGKILL
    start_timeout: float = 30.0  # seconds from starting a worker until it must begin to load plugins
    load_timeout: float = 60.0  # seconds in which a worker must load all plugins
    spares: int = 0  # ready workers beyond `workers`, which replace crashed ones
    retries: int = 0  # number of retries of a task whose worker died
    restart_intensity: int | None = None  # crashes within `restart_period` before restarts are delayed; None: 5 for each worker
    restart_period: float = 10.0  # seconds in which crashes are counted
    quarantine_after: int | None = 3  # workers that the same content may kill before it is refused; None: no limit
    quarantine_time: float = 300.0  # seconds for which the content is refused
    max_tasks_per_worker: int | None = None  # number of tasks after which a worker is replaced; None: no limit
    max_worker_age: float | None = None  # seconds after which a worker is replaced; None: no limit
    max_worker_memory: int | str | None = None  # bytes of private memory at which an idle worker is replaced; None: no limit
    nice: int | Literal["idle"] = 8  # niceness of workers relative to the server's; "idle": the idle scheduling class
    tenant_weights: Mapping[str, float] | None = None  # shares of the workers' time by tenant; 1 for other tenants
    executable: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None  # interpreter; None: this program's
    spawn_prefix: Sequence[str] = ()  # program that starts the workers, and its first arguments
    environment: Mapping[str, str | None] | None = None  # variables of workers beside inherited ones; None removes one
    isolation: Isolation = "pool"  # tasks that may run in one worker, one after the other
    sandbox: SandboxMode = "auto"  # layers of isolation that a worker must have
    private_sources: bool | None = (
        None  # whether a source is visible only to its task's worker; None: unless `sandbox` is "off"
    )
    plugins: Sequence[str | Plugin | type[Plugin]] | None = None  # plugins to load; None: every installed plugin
    groups: Sequence[WorkerGroup] = ()  # worker groups beside the default one
    inline: bool = False  # whether workers are threads of this process, without isolation and time limits
    functions: Sequence[str] = ()  # modules whose functions may run in workers without `@offloop.function`

    def __post_init__(self) -> None:
        """Check all settings.

        Raises:
            ValueError: a value is out of its range.
            TypeError: a value is of the wrong type.
        """
        check_seconds("idle_timeout", self.idle_timeout)
        check_worker_range(self.workers, self.min_workers, self.max_workers, 1)
        if self.max_queue is not None:
            check_range("max_queue", self.max_queue, 0, math.inf, whole=True)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        if self.max_queue_bytes is not None:
            check_range("max_queue_bytes", named_size("max_queue_bytes", self.max_queue_bytes), 0, math.inf, whole=True)
        if self.admission not in get_args(AdmissionName):
            raise ValueError(f"admission={self.admission!r}: must be one of {', '.join(map(repr, get_args(AdmissionName)))}")
        check_nice(self.nice)
        check_seconds("grace", self.grace)
        check_seconds("start_timeout", self.start_timeout)
        check_seconds("load_timeout", self.load_timeout)
        self._check_tenants()
        self._check_restarts()
        check_recycling(
            ("max_tasks_per_worker", "max_worker_age", "max_worker_memory"),
            self.max_tasks_per_worker,
            self.max_worker_age,
            self.max_worker_memory,
        )
        self._check_program()
        self._check_groups()
        if self.memory_limit is not None:
            nbytes = named_size("memory_limit", self.memory_limit)
            check_range("memory_limit", nbytes, MIN_MEMORY_LIMIT, MAX_BYTES, whole=True)
            self._check_spares(nbytes - pages(int(nbytes * INBOX_SHARE)))
        if isinstance(self.plugins, str | bytes) or not isinstance(self.plugins, Sequence | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"plugins={self.plugins!r}: give a list of plugins")
        if isinstance(self.functions, str) or not all(isinstance(name, str) for name in self.functions):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"functions={self.functions!r}: give a list of names of modules")

    def _check_tenants(self) -> None:
        if not isinstance(self.tenant_weights, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"tenant_weights={self.tenant_weights!r}: give a dictionary of names and numbers")
        for tenant, weight in (self.tenant_weights or {}).items():
            check_range(f"tenant_weights[{tenant!r}]", weight, _MIN_WEIGHT, _MAX_WEIGHT, whole=False)

    def _check_restarts(self) -> None:
        check_range("spares", self.spares, 0, MAX_WORKERS, whole=True)
        check_retries(self.retries)
        if self.restart_intensity is not None:
            check_range("restart_intensity", self.restart_intensity, 0, math.inf, whole=True)
        check_seconds("restart_period", self.restart_period)
        if self.quarantine_after is not None:
            check_range("quarantine_after", self.quarantine_after, 1, math.inf, whole=True)
        check_seconds("quarantine_time", self.quarantine_time)

    def _check_program(self) -> None:
        if self.executable is not None:
            program, *_ = self._interpreter() or ("",)
            if shutil.which(program) is None:
                raise ValueError(f"executable={self.executable!r}: there is no program {program!r} that can be run")
        prefix: Any = self.spawn_prefix
        if isinstance(prefix, str) or not all(isinstance(word, str) for word in prefix):
            raise TypeError(f"spawn_prefix={prefix!r}: give a list of a program and its arguments")
        if prefix and shutil.which(prefix[0]) is None:
            raise ValueError(f"spawn_prefix={prefix!r}: there is no program {prefix[0]!r} that can be run")
        check_environment(self.environment)
        check_isolation(self.isolation)
        check_sandbox(self.sandbox)
        check_private_sources(self.private_sources)

    def _check_groups(self) -> None:
        groups: Any = self.groups
        if isinstance(groups, str) or not isinstance(groups, Sequence):
            raise TypeError(f"groups={groups!r}: give a list of WorkerGroup")
        names: set[str] = set()
        for group in cast("Sequence[object]", groups):
            if not isinstance(group, WorkerGroup):
                raise TypeError(f"groups: {group!r} is no WorkerGroup")
            if group.name == DEFAULT_GROUP:
                raise ValueError(f"groups: the settings of Pool itself describe the group {group.name!r}; choose another name")
            if group.name == SMALL_TASKS_GROUP:
                raise ValueError(f"groups: {group.name!r} is the group for small tasks beside large ones; choose another name")
            if group.name in names:
                raise ValueError(f"groups: two groups are named {group.name!r}")
            names.add(group.name)

    def _interpreter(self) -> tuple[str, ...] | None:
        """The interpreter for workers and its first arguments; None: this program's own.

        Raises:
            TypeError: `executable` is neither a path nor a list of paths and texts.
        """
        given: Any = self.executable
        if given is None:
            return None
        words: Any = [given] if isinstance(given, str | os.PathLike) else given
        if (
            not isinstance(words, Sequence)
            or not words
            or not all(isinstance(word, str | os.PathLike) for word in cast("Sequence[object]", words))
        ):
            raise TypeError(f"executable={given!r}: give the path of a Python interpreter, or a list of it and its arguments")
        return tuple(os.fspath(word) for word in cast("Sequence[str | os.PathLike[str]]", words))

    def worker_program(self, group: str = DEFAULT_GROUP) -> WorkerProgram:
        """The program that the worker processes of a group run."""
        environment = {**(self.environment or {}), **(self._group(group).environment or {})}
        return WorkerProgram(
            self._interpreter(),
            environment,
            prefix=tuple(self.spawn_prefix),
            inherits=self.sandbox_of(group) == "off",
            frozen=is_frozen(),
        )

    def sandbox_of(self, group: str) -> SandboxMode:
        """The sandbox of a group's workers."""
        return _given_or(self._group(group).sandbox, self.sandbox)

    def has_private_sources(self, group: str) -> bool:
        """Whether the workers of a group have inboxes of their own. Threads of this process do not."""
        private = _given_or(self._group(group).private_sources, self.private_sources)
        return (self.sandbox_of(group) != "off" if private is None else private) and not self.inline

    def nice_of(self, group: str) -> int | Literal["idle"]:
        """Niceness of a group's workers. Those for small tasks are less nice than the default group's."""
        if group != SMALL_TASKS_GROUP:
            return _given_or(self._group(group).nice, self.nice)
        return _MAX_NICE if self.nice == "idle" else round(self.nice * _SMALL_TASKS_NICE_RATIO)

    def resolved(
        self, plugins: Mapping[str, tuple[str, ...]] | None = None, more_load_s: Mapping[str, float] | None = None
    ) -> CoreSettings:
        """The core's settings, with defaults from the machine.

        Args:
            plugins: names of the plugins of each group, first the default one; None: only the default group, without plugins.
            more_load_s: seconds that the plugins of each group may take to load in addition to `load_timeout`; None: none.

        Raises:
            ValueError: there is not enough memory for so many spares.
        """
        groups = self._resolved_groups({DEFAULT_GROUP: ()} if plugins is None else plugins, more_load_s or {})
        total = default_memory_limit().value if self.memory_limit is None else parse_size(self.memory_limit)
        capacity, bounded_by = shared_memory_capacity(total, is_default=self.memory_limit is None)
        limit = capacity // PAGE_NBYTES * PAGE_NBYTES
        inbox_nbytes = pages(int(limit * INBOX_SHARE))
        self._check_spares(limit - inbox_nbytes)
        started = groups[0].workers + sum(group.min_workers or 0 for group in groups[1:])
        return CoreSettings(
            groups=groups,
            budget_bytes=self._budget(total, started + sum(group.spares for group in groups if not group.is_on_demand)),
            admission=AdmissionMode(self.admission),
            limit_bytes=limit,
            inbox_nbytes=inbox_nbytes,
            inbox_addresses_nbytes=inbox_addresses(inbox_nbytes),
            bounded_by=bounded_by,
            max_starts=max(available_cpus().value, 2),
            quarantine_after=self.quarantine_after,
            quarantine_s=self.quarantine_time,
            tenant_weights=self.tenant_weights,
            seed=secrets.randbits(32),
            max_sent_tasks=_MAX_SENT_TASKS if is_barrier_supported() else 0,
            max_queue=self.max_queue,
            max_queue_bytes=None if self.max_queue_bytes is None else parse_size(self.max_queue_bytes),
            grace_s=self.grace,
            start_timeout_s=self.start_timeout,
        )

    def _group(self, name: str) -> WorkerGroup:
        """The given settings of a group; if there are none, all are the pool's."""
        return next((group for group in self.groups if group.name == name), WorkerGroup(name))

    def _resolved_groups(
        self, plugins: Mapping[str, tuple[str, ...]], more_load_s: Mapping[str, float]
    ) -> tuple[GroupSettings, ...]:
        default_min, default_max = self._range_of_workers()
        groups: list[GroupSettings] = []
        for name, names in plugins.items():
            group, is_default = self._group(name), name == DEFAULT_GROUP
            min_workers, workers = (default_min, default_max) if is_default else group.range_of_workers(default_max)
            spares = self.spares if is_default else group.spares
            memory = _given_or(group.max_memory, self.max_worker_memory)
            intensity = _CRASHES_PER_WORKER * (workers + spares)
            groups.append(
                GroupSettings(
                    name=name,
                    workers=workers,
                    min_workers=min_workers,
                    spares=spares,
                    idle_timeout_s=_given_or(group.idle_timeout, self.idle_timeout),
                    load_timeout_s=_given_or(group.load_timeout, self.load_timeout + more_load_s.get(name, 0.0)),
                    restart_intensity=_given_or(self.restart_intensity, intensity),
                    restart_period_s=self.restart_period,
                    max_tasks_per_worker=_given_or(group.max_tasks, self.max_tasks_per_worker),
                    max_worker_age_s=_given_or(group.max_age, self.max_worker_age),
                    max_worker_bytes=None if memory is None else parse_size(memory),
                    plugins=names,
                    isolation=_given_or(group.isolation, self.isolation),
                    sandbox=self.sandbox_of(name),
                    private_sources=self.has_private_sources(name),
                )
            )
        return tuple(groups)

    def _range_of_workers(self) -> tuple[int, int]:
        if self.workers is not None:
            return self.workers, self.workers
        if self.min_workers is None and self.max_workers is None:
            cpus = available_cpus().value
            return cpus, cpus
        min_workers = self.min_workers or 1
        return min_workers, self.max_workers or max(available_cpus().value, min_workers)

    def _budget(self, total: int, workers: int) -> int | None:
        """The memory limit, or None if idle workers and one task need more than that."""
        needed = workers * DEFAULT_WORKER_NBYTES + MIN_TASKS_NBYTES
        if total >= needed or self.admission == "off":
            return total
        if self.memory_limit is not None:
            bound = f"memory_limit is {total:,} bytes, but processes of idle workers ({workers}) and a task need {needed:,}"
            _log.warning("%s: it bounds shared memory only", bound)
        return None

    def _check_spares(self, results_nbytes: int) -> None:
        """Refuse more spares than fit into memory, because each has the memory of its first result allocated."""
        max_spares = results_nbytes // FIRST_GRANT_NBYTES
        spares = self.spares + sum(group.spares for group in self.groups)
        if spares > max_spares:
            needed = spares * FIRST_GRANT_NBYTES
            raise ValueError(
                f"spares={spares!r}: they need {needed:,} bytes of the {results_nbytes:,} that memory_limit leaves for "
                f"results; at most {max_spares} fit"
            )


def _given_or(given: _T | None, default: _T) -> _T:
    return default if given is None else given


def check_room(workers: int, settings: CoreSettings, group: str = DEFAULT_GROUP) -> None:
    """Check that the memory limit is enough for this number of idle workers of a group.

    Raises:
        ValueError: it is not, or there is no such group.
    """
    limits = {one.name: one.workers for one in settings.groups}
    if group not in limits:
        raise ValueError(f"group={group!r}: the pool's groups are {', '.join(map(repr, limits))}")
    needed = workers * DEFAULT_WORKER_NBYTES + MIN_TASKS_NBYTES
    limit = settings.budget_bytes
    if limit is not None and settings.admission is not AdmissionMode.OFF and workers > limits[group] and needed > limit:
        raise ValueError(f"workers={workers!r}: idle they need about {needed:,} bytes, and memory_limit is {limit:,}")
