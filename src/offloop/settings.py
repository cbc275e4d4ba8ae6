"""A pool's settings: checked where they are given, and completed from what the machine has."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence

import msgspec

from .core.allocator import PAGE_NBYTES, pages
from .core.core_settings import CoreSettings
from .machine import Amount, available_cpus, available_memory, free_shared_memory
from .operation import Plugin

__all__ = ["PoolSettings", "default_memory_limit", "parse_size"]

_log = logging.getLogger("offloop.settings")

_MEMORY_SHARE = 0.5  # of what the process may use: the rest is for the server, and for what workers need beside the arena
_SHARED_MEMORY_SHARE = 0.9  # of what is free in /dev/shm: others use it too
_INBOX_SHARE = 0.75  # of the arena: sources never take the room that results need to be finished
_MIN_MEMORY_LIMIT = 1024 * 1024
_MAX_WORKERS = 1024
_MAX_BYTES = 1 << 46  # 64 TiB: a process has not more addresses than twice that
_MAX_SECONDS = 1e9  # thirty years; None is for ever
_SIZE_LENGTH = 32  # characters of a size in text

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?:(?P<prefix>[KMGT])(?P<binary>i?))?B?", re.IGNORECASE)


class PoolSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `Pool(...)` was given. Every field is checked when the pool is made; a `ValueError` names the field, the value and
    the range."""

    workers: int | None = None  # None: as many as processors may be used
    memory_limit: int | str | None = None  # bytes of shared memory, or "2GiB"; None: see `default_memory_limit`
    timeout: float | None = 30.0  # seconds a task may run; None: for ever
    max_queue: int | None = None  # tasks that may wait; None: any number
    grace: float = 0.25  # seconds between telling a task or a worker to stop and SIGKILL
    start_timeout: float = 30.0  # seconds from starting a worker to its being ready
    plugins: Sequence[str | Plugin | type[Plugin]] | None = None  # None: every installed plugin

    def __post_init__(self) -> None:
        """Refuse nonsense.

        Raises:
            ValueError: a value is out of its range.
            TypeError: a value is of the wrong type.
        """
        if self.workers is not None:
            check_range("workers", self.workers, 1, _MAX_WORKERS, whole=True)
        if self.max_queue is not None:
            check_range("max_queue", self.max_queue, 0, math.inf, whole=True)
        if self.timeout is not None:
            check_seconds("timeout", self.timeout)
        check_seconds("grace", self.grace)
        check_seconds("start_timeout", self.start_timeout)
        if self.memory_limit is not None:
            nbytes = _named_size("memory_limit", self.memory_limit)
            check_range("memory_limit", nbytes, _MIN_MEMORY_LIMIT, _MAX_BYTES, whole=True)
        if isinstance(self.plugins, str | bytes) or not isinstance(self.plugins, Sequence | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"plugins={self.plugins!r}: give a list of plugins")

    def resolved(self) -> CoreSettings:
        """What the core needs, with the machine's answers filled in."""
        workers = available_cpus().value if self.workers is None else self.workers
        limit = default_memory_limit().value if self.memory_limit is None else _what_there_is(parse_size(self.memory_limit))
        limit = limit // PAGE_NBYTES * PAGE_NBYTES
        return CoreSettings(
            workers=workers,
            limit_bytes=limit,
            inbox_nbytes=pages(int(limit * _INBOX_SHARE)),
            max_queue=self.max_queue,
            grace_s=self.grace,
            start_timeout_s=self.start_timeout,
        )


def default_memory_limit() -> Amount:
    """The bytes of shared memory that a pool uses at most unless told otherwise, and why: half of the memory that the process
    may use, or nine tenths of what is free in /dev/shm, whichever is less."""
    memory = available_memory()
    candidates = [Amount(int(memory.value * _MEMORY_SHARE), f"half of {memory.source}")]
    shared = free_shared_memory()
    if shared is not None:
        candidates.append(Amount(int(shared.value * _SHARED_MEMORY_SHARE), f"nine tenths of what is {shared.source}"))
    smallest = min(candidates)
    return smallest._replace(value=max(smallest.value, _MIN_MEMORY_LIMIT))


def _what_there_is(asked: int) -> int:
    """As much of the memory that was asked for as /dev/shm has: a plan on more would refuse tasks half-way."""
    shared = free_shared_memory()
    there_is = asked if shared is None else max(int(shared.value * _SHARED_MEMORY_SHARE), _MIN_MEMORY_LIMIT)
    if there_is < asked:
        _log.warning("memory_limit is %d bytes, but /dev/shm has only %d for it: the pool uses those", asked, there_is)
    return min(asked, there_is)


def parse_size(size: int | str) -> int:
    """Bytes from a number or from text such as "512MB", "2GiB" or "1.5 GiB".

    Raises:
        ValueError: the text is no such size.
    """
    if isinstance(size, int):
        return size
    if not isinstance(size, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
        raise TypeError(f"{size!r} is not a size; write bytes as a whole number, or as in '512MB' or '2GiB'")
    match = _SIZE.fullmatch(size.strip())
    if match is None or len(size) > _SIZE_LENGTH:
        raise ValueError(f"{size!r} is not a size; write bytes as a number, or as in '512MB' or '2GiB'")
    exponent = " KMGT".index((match["prefix"] or " ").upper())
    return int(float(match["number"]) * (1024 if match["binary"] else 1000) ** exponent)


def _named_size(name: str, size: int | str) -> int:
    try:
        return parse_size(size)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{name}={size!r}: {error}") from None


def check_seconds(name: str, value: float) -> None:
    """Refuse what is no time span that could ever pass.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    check_range(name, value, 0, _MAX_SECONDS, whole=False)


def check_range(name: str, value: object, low: float, high: float, *, whole: bool) -> None:
    """Refuse a number that is out of range or of the wrong kind."""
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise TypeError(f"{name}={value!r}: must be a{' whole' if whole else ''} number")
    if not low <= value <= high:
        allowed = f"at least {low:,}" if high == math.inf else f"from {low:,} to {high:,}"
        raise ValueError(f"{name}={value!r}: must be {allowed}")
