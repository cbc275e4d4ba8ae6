"""Settings of a pool: their checks, and their completion with defaults from the machine."""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, Literal, SupportsIndex, TypeAlias, cast, get_args

import msgspec

from .core.memory.allocator import PAGE_NBYTES, pages
from .core.memory.budget import DEFAULT_WORKER_NBYTES, MIN_TASKS_NBYTES
from .core.model.settings import FIRST_GRANT_NBYTES, AdmissionMode, CoreSettings
from .operation import Plugin
from .program import is_frozen
from .runtime.workers.command_line import WorkerProgram
from .system import Amount, address_limit, available_cpus, available_memory, free_shared_memory

__all__ = ["PoolSettings", "default_memory_limit", "parse_size"]

_log = logging.getLogger("offloop.settings")

AdmissionName: TypeAlias = Literal["enforce", "shadow", "off"]

_MEMORY_SHARE = 0.5  # share of available memory for the pool; the rest is for the server
_SHARED_MEMORY_SHARE = 0.9  # share of free /dev/shm, because other programs use it, too
_INBOX_SHARE = 0.75  # share of the arena, so that sources never take the memory that results need
_INBOX_ADDRESSES_FACTOR = 16  # times the inbox's capacity: so many streams without a `max_bytes` fit at once
_MIN_INBOX_ADDRESSES = 64 * 1024**3  # bytes
_MAX_INBOX_ADDRESSES = 8 * 1024**4  # bytes: an eighth of a process's address space
_MIN_MEMORY_LIMIT = 1024 * 1024  # bytes
_MAX_WORKERS = 1024
_MAX_RETRIES = 100
_MAX_PRIORITY = 10
_MAX_TENANT_LENGTH = 256  # characters, because a tenant's name is kept while it has waiting tasks
_MIN_WEIGHT, _MAX_WEIGHT = 0.001, 1000
_CRASHES_PER_WORKER = 5  # default `restart_intensity`; a worker start costs 0.1 s of CPU time
_MIN_WORKER_AGE_S = 1.0  # several times the duration of a worker start
_MIN_WORKER_MEMORY = 32 * 1024 * 1024  # bytes: about the private memory of a worker after loading its plugins
_MAX_BYTES = 1 << 46  # 64 TiB: half of a process's address space
_MAX_SECONDS = 1e9  # thirty years; None means no limit
_MAX_SIZE_LENGTH = 32  # characters of a size in text

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?:(?P<prefix>[KMGT])(?P<binary>i?))?B?", re.IGNORECASE)


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
    environment: Mapping[str, str | None] | None = None  # variables of workers beside the server's; None removes a variable
    plugins: Sequence[str | Plugin | type[Plugin]] | None = None  # plugins to load; None: every installed plugin

    def __post_init__(self) -> None:
        """Check all settings.

        Raises:
            ValueError: a value is out of its range.
            TypeError: a value is of the wrong type.
        """
        self._check_workers()
        if self.max_queue is not None:
            check_range("max_queue", self.max_queue, 0, math.inf, whole=True)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        if self.max_queue_bytes is not None:
            check_range("max_queue_bytes", _named_size("max_queue_bytes", self.max_queue_bytes), 0, math.inf, whole=True)
        if self.admission not in get_args(AdmissionName):
            raise ValueError(f"admission={self.admission!r}: must be one of {', '.join(map(repr, get_args(AdmissionName)))}")
        if isinstance(self.nice, str) and self.nice != "idle":
            raise ValueError(f"nice={self.nice!r}: must be from 0 to 19, or 'idle'")
        if self.nice != "idle":
            check_range("nice", self.nice, 0, 19, whole=True)
        check_seconds("grace", self.grace)
        check_seconds("start_timeout", self.start_timeout)
        check_seconds("load_timeout", self.load_timeout)
        self._check_tenants()
        self._check_restarts()
        self._check_recycling()
        self._check_program()
        if self.memory_limit is not None:
            nbytes = _named_size("memory_limit", self.memory_limit)
            check_range("memory_limit", nbytes, _MIN_MEMORY_LIMIT, _MAX_BYTES, whole=True)
            self._check_spares(nbytes - pages(int(nbytes * _INBOX_SHARE)))
        if isinstance(self.plugins, str | bytes) or not isinstance(self.plugins, Sequence | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"plugins={self.plugins!r}: give a list of plugins")

    def _check_workers(self) -> None:
        check_seconds("idle_timeout", self.idle_timeout)
        if self.workers is not None:
            check_workers(self.workers)
            if self.min_workers is not None or self.max_workers is not None:
                raise ValueError("workers, and min_workers or max_workers: give a fixed number or a range, not both")
        if self.min_workers is not None:
            check_range("min_workers", self.min_workers, 1, _MAX_WORKERS, whole=True)
        if self.max_workers is not None:
            check_range("max_workers", self.max_workers, self.min_workers or 1, _MAX_WORKERS, whole=True)

    def _check_tenants(self) -> None:
        if not isinstance(self.tenant_weights, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"tenant_weights={self.tenant_weights!r}: give a dictionary of names and numbers")
        for tenant, weight in (self.tenant_weights or {}).items():
            check_range(f"tenant_weights[{tenant!r}]", weight, _MIN_WEIGHT, _MAX_WEIGHT, whole=False)

    def _check_restarts(self) -> None:
        check_range("spares", self.spares, 0, _MAX_WORKERS, whole=True)
        check_retries(self.retries)
        if self.restart_intensity is not None:
            check_range("restart_intensity", self.restart_intensity, 0, math.inf, whole=True)
        check_seconds("restart_period", self.restart_period)
        if self.quarantine_after is not None:
            check_range("quarantine_after", self.quarantine_after, 1, math.inf, whole=True)
        check_seconds("quarantine_time", self.quarantine_time)

    def _check_recycling(self) -> None:
        if self.max_tasks_per_worker is not None:
            check_range("max_tasks_per_worker", self.max_tasks_per_worker, 1, math.inf, whole=True)
        if self.max_worker_age is not None:
            check_range("max_worker_age", self.max_worker_age, _MIN_WORKER_AGE_S, _MAX_SECONDS, whole=False)
        if self.max_worker_memory is not None:
            nbytes = _named_size("max_worker_memory", self.max_worker_memory)
            check_range("max_worker_memory", nbytes, _MIN_WORKER_MEMORY, _MAX_BYTES, whole=True)

    def _check_program(self) -> None:
        if self.executable is not None:
            program, *_ = self._interpreter() or ("",)
            if shutil.which(program) is None:
                raise ValueError(f"executable={self.executable!r}: there is no program {program!r} that can be run")
        if not isinstance(self.environment, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"environment={self.environment!r}: give a dictionary of names and texts")
        for name, value in (self.environment or {}).items():
            _check_variable(name, value)

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

    def worker_program(self) -> WorkerProgram:
        """The program that worker processes run."""
        return WorkerProgram(self._interpreter(), dict(self.environment or {}), is_frozen())

    def resolved(self) -> CoreSettings:
        """The core's settings, with defaults from the machine.

        Raises:
            ValueError: there is not enough memory for so many spares.
        """
        min_workers, workers = self._range_of_workers()
        total = default_memory_limit().value if self.memory_limit is None else parse_size(self.memory_limit)
        capacity, bounded_by = self._shared_memory_capacity(total)
        limit = capacity // PAGE_NBYTES * PAGE_NBYTES
        inbox_nbytes = pages(int(limit * _INBOX_SHARE))
        self._check_spares(limit - inbox_nbytes)
        intensity = _CRASHES_PER_WORKER * (workers + self.spares) if self.restart_intensity is None else self.restart_intensity
        memory = self.max_worker_memory
        return CoreSettings(
            workers=workers,
            min_workers=min_workers,
            idle_timeout_s=self.idle_timeout,
            budget_bytes=self._budget(total, workers + self.spares),
            admission=AdmissionMode(self.admission),
            limit_bytes=limit,
            inbox_nbytes=inbox_nbytes,
            inbox_addresses_nbytes=_inbox_addresses(inbox_nbytes),
            bounded_by=bounded_by,
            spares=self.spares,
            max_starts=max(available_cpus().value, 2),
            restart_intensity=intensity,
            restart_period_s=self.restart_period,
            quarantine_after=self.quarantine_after,
            quarantine_s=self.quarantine_time,
            max_tasks_per_worker=self.max_tasks_per_worker,
            max_worker_age_s=self.max_worker_age,
            max_worker_bytes=None if memory is None else parse_size(memory),
            tenant_weights=self.tenant_weights,
            seed=secrets.randbits(32),
            max_queue=self.max_queue,
            max_queue_bytes=None if self.max_queue_bytes is None else parse_size(self.max_queue_bytes),
            grace_s=self.grace,
            start_timeout_s=self.start_timeout,
            load_timeout_s=self.load_timeout,
        )

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

    def _shared_memory_capacity(self, asked: int) -> tuple[int, str]:
        """The bytes that sources and results may take, bounded by free /dev/shm; and the reason for the number.

        A `memory_limit` of the user that cannot be met is logged as a warning, a default one as info.
        """
        level = logging.INFO if self.memory_limit is None else logging.WARNING
        memory = available_memory()
        if asked > memory.value:
            bound = f"memory_limit is {asked:,} bytes, but this process may use {memory.value:,}"
            _log.log(level, "%s: %s", bound, memory.source)
        shared = free_shared_memory()
        capacity = asked if shared is None else max(int(shared.value * _SHARED_MEMORY_SHARE), _MIN_MEMORY_LIMIT)
        if shared is None or capacity >= asked:
            return asked, "memory_limit"
        bound = f"memory_limit is {asked:,} bytes, but sources and results have {capacity:,}"
        _log.log(level, "%s: nine tenths of what is free in /dev/shm (in Docker: --shm-size)", bound)
        return capacity, f"what was {shared.source} when the pool was entered"

    def _check_spares(self, results_nbytes: int) -> None:
        """Refuse more spares than fit into memory, because each has the memory of its first result allocated."""
        max_spares = results_nbytes // FIRST_GRANT_NBYTES
        if self.spares > max_spares:
            needed = self.spares * FIRST_GRANT_NBYTES
            raise ValueError(
                f"spares={self.spares!r}: they need {needed:,} bytes of the {results_nbytes:,} that memory_limit leaves for "
                f"results; at most {max_spares} fit"
            )


def default_memory_limit() -> Amount:
    """Default `memory_limit` in bytes, and its origin: half of the memory that the process may use."""
    memory = available_memory()
    return Amount(max(int(memory.value * _MEMORY_SHARE), _MIN_MEMORY_LIMIT), f"half of {memory.source}")


def _inbox_addresses(inbox_nbytes: int) -> int:
    """Bytes of the inbox's address range: many times its capacity, because a stream keeps the addresses of its `max_bytes`."""
    addresses = min(max(inbox_nbytes * _INBOX_ADDRESSES_FACTOR, _MIN_INBOX_ADDRESSES), _MAX_INBOX_ADDRESSES)
    limit = address_limit()
    if limit is not None:
        addresses = min(addresses, limit // 4)
    return max(pages(addresses), inbox_nbytes)


def parse_size(size: int | str) -> int:
    """Number of bytes, from a number or a text such as "512MB", "2GiB" or "1.5 GiB".

    Raises:
        ValueError: the text is not a size.
        TypeError: the value is neither a whole number nor a text.
    """
    if isinstance(size, int):
        return size
    if not isinstance(size, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
        raise TypeError(f"{size!r} is not a size; write bytes as a whole number, or as in '512MB' or '2GiB'")
    match = _SIZE.fullmatch(size.strip())
    if match is None or len(size) > _MAX_SIZE_LENGTH:
        raise ValueError(f"{size!r} is not a size; write bytes as a number, or as in '512MB' or '2GiB'")
    exponent = " KMGT".index((match["prefix"] or " ").upper())
    return int(float(match["number"]) * (1024 if match["binary"] else 1000) ** exponent)


def _named_size(name: str, size: int | str) -> int:
    try:
        return parse_size(size)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name}={size!r}: {error}") from None


def _check_variable(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, str | None):
        raise TypeError(f"environment={{{name!r}: {value!r}}}: names are texts, and values are texts or None")
    if not name or "=" in name or "\0" in name or "\0" in (value or ""):
        raise ValueError(f"environment={{{name!r}: {value!r}}}: no such variable can be set")


def check_workers(workers: int) -> None:
    """Check a number of workers.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    check_range("workers", workers, 1, _MAX_WORKERS, whole=True)


def check_room(workers: int, settings: CoreSettings) -> None:
    """Check that the memory limit is enough for this number of idle workers.

    Raises:
        ValueError: it is not.
    """
    needed = workers * DEFAULT_WORKER_NBYTES + MIN_TASKS_NBYTES
    limit = settings.budget_bytes
    if limit is not None and settings.admission is not AdmissionMode.OFF and workers > settings.workers and needed > limit:
        raise ValueError(f"workers={workers!r}: idle they need about {needed:,} bytes, and memory_limit is {limit:,}")


def check_retries(retries: int) -> int:
    """Check a number of retries, and return it.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    check_range("retries", retries, 0, _MAX_RETRIES, whole=True)
    return retries


def check_order(priority: int, tenant: str | None) -> None:
    """Check a priority and a tenant.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    check_range("priority", priority, -_MAX_PRIORITY, _MAX_PRIORITY, whole=True)
    if tenant is not None and not isinstance(tenant, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
        raise TypeError(f"tenant={tenant!r}: must be text, or None")
    if tenant is not None and len(tenant) > _MAX_TENANT_LENGTH:
        raise ValueError(f"tenant={tenant[:20]!r}...: {len(tenant):,} characters; at most {_MAX_TENANT_LENGTH}")


def check_seconds(name: str, value: float) -> None:
    """Check a number of seconds.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    check_range(name, value, 0, _MAX_SECONDS, whole=False)


def check_nbytes(name: str, value: SupportsIndex, low: int) -> int:
    """Check a number of bytes, and return it as a plain `int`. Integers of numpy are accepted.

    Raises:
        ValueError, TypeError: naming the parameter, the value and the range.
    """
    try:
        nbytes = index(value)
    except TypeError:
        raise TypeError(f"{name}={value!r}: must be a whole number of bytes") from None
    check_range(name, nbytes, low, math.inf, whole=True)
    return nbytes


def check_range(name: str, value: object, low: float, high: float, *, whole: bool) -> None:
    """Check that a value is a number in a range.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise TypeError(f"{name}={value!r}: must be a{' whole' if whole else ''} number")
    if not low <= value <= high:
        allowed = f"at least {low:,}" if high == math.inf else f"from {low:,} to {high:,}"
        raise ValueError(f"{name}={value!r}: must be {allowed}")
