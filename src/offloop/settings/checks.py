"""Checks of single values. Each error names the setting, the value and the range."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from operator import index
from typing import SupportsIndex, get_args

from ..sandbox import Isolation, SandboxMode
from ..sizes import named_size

__all__ = [
    "MAX_BYTES",
    "MAX_WORKERS",
    "check_environment",
    "check_isolation",
    "check_labels",
    "check_memory_limit",
    "check_nbytes",
    "check_nice",
    "check_order",
    "check_private_sources",
    "check_range",
    "check_recycling",
    "check_retries",
    "check_sandbox",
    "check_seconds",
    "check_worker_range",
    "check_workers",
]

MAX_BYTES = 1 << 46  # 64 TiB: half of a process's address space
MAX_WORKERS = 1024
_MAX_SECONDS = 1e9  # thirty years; None means no limit
_MAX_RETRIES = 100
_MAX_PRIORITY = 10
_MAX_TENANT_LENGTH = 256  # characters, because a tenant's name is kept while it has waiting tasks
_MAX_LABELS = 16
_MAX_LABEL_LENGTH = 256  # characters, because the labels are in each log line of their task
_LABEL_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
_MIN_WORKER_AGE_S = 1.0  # several times the duration of a worker start
_MIN_TASK_MEMORY = 1024 * 1024  # bytes: less than any task needs
_MIN_WORKER_MEMORY = 32 * 1024 * 1024  # bytes: about the private memory of a worker after loading its plugins


def check_environment(environment: Mapping[str, str | None] | None) -> None:
    """Check variables of workers.

    Raises:
        ValueError, TypeError: naming the variable.
    """
    if not isinstance(environment, Mapping | None):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
        raise TypeError(f"environment={environment!r}: give a dictionary of names and texts")
    for name, value in (environment or {}).items():
        _check_variable(name, value)


def _check_variable(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, str | None):
        raise TypeError(f"environment={{{name!r}: {value!r}}}: names are texts, and values are texts or None")
    if not name or "=" in name or "\0" in name or "\0" in (value or ""):
        raise ValueError(f"environment={{{name!r}: {value!r}}}: no such variable can be set")


def check_nice(nice: int | str) -> None:
    """Check a niceness.

    Raises:
        ValueError, TypeError: it is neither from 0 to 19 nor "idle".
    """
    if isinstance(nice, str) and nice != "idle":
        raise ValueError(f"nice={nice!r}: must be from 0 to 19, or 'idle'")
    if nice != "idle":
        check_range("nice", nice, 0, 19, whole=True)


def check_worker_range(workers: int | None, min_workers: int | None, max_workers: int | None, lowest: int) -> None:
    """Check a number of workers, or a range of at least `lowest` workers.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range; or both a number and a range are given.
    """
    if workers is not None:
        check_workers(workers)
        if min_workers is not None or max_workers is not None:
            raise ValueError("workers, and min_workers or max_workers: give a fixed number or a range, not both")
    if min_workers is not None:
        check_range("min_workers", min_workers, lowest, MAX_WORKERS, whole=True)
    if max_workers is not None:
        check_range("max_workers", max_workers, max(min_workers or 1, 1), MAX_WORKERS, whole=True)


def check_recycling(names: tuple[str, str, str], tasks: int | None, age: float | None, memory: int | str | None) -> None:
    """Check the limits after which a worker is replaced.

    Args:
        names: the names of the three settings.
        tasks: number of tasks.
        age: seconds.
        memory: private memory between two tasks, in bytes or as in "500MiB".

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    tasks_name, age_name, memory_name = names
    if tasks is not None:
        check_range(tasks_name, tasks, 1, math.inf, whole=True)
    if age is not None:
        check_range(age_name, age, _MIN_WORKER_AGE_S, _MAX_SECONDS, whole=False)
    if memory is not None:
        check_range(memory_name, named_size(memory_name, memory), _MIN_WORKER_MEMORY, MAX_BYTES, whole=True)


def check_sandbox(sandbox: SandboxMode) -> None:
    """Check the setting of a sandbox.

    Raises:
        ValueError: it is not one of the three.
    """
    if sandbox not in get_args(SandboxMode):
        raise ValueError(f"sandbox={sandbox!r}: must be one of {', '.join(map(repr, get_args(SandboxMode)))}")


def check_private_sources(private: bool | None) -> None:
    """Check whether sources are private.

    Raises:
        TypeError: it is neither a truth value nor None.
    """
    if not isinstance(private, bool | None):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
        raise TypeError(f"private_sources={private!r}: must be True, False or None")


def check_isolation(isolation: Isolation) -> None:
    """Check which tasks may run in one worker.

    Raises:
        ValueError: it is not one of the three.
    """
    if isolation not in get_args(Isolation):
        raise ValueError(f"isolation={isolation!r}: must be one of {', '.join(map(repr, get_args(Isolation)))}")


def check_workers(workers: int) -> None:
    """Check a number of workers.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    check_range("workers", workers, 1, MAX_WORKERS, whole=True)


def check_memory_limit(memory_limit: int | str) -> int:
    """Check the limit of one task's private memory, and return it in bytes.

    Raises:
        ValueError, TypeError: naming the setting, the value and the range.
    """
    nbytes = named_size("memory_limit", memory_limit)
    check_range("memory_limit", nbytes, _MIN_TASK_MEMORY, MAX_BYTES, whole=True)
    return nbytes


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


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Check the labels of a task, and return a copy.

    Raises:
        ValueError, TypeError: naming the label and the limit.
    """
    if not isinstance(labels, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
        raise TypeError(f"labels={labels!r}: must be a mapping of names and texts, or None")
    if len(labels) > _MAX_LABELS:
        raise ValueError(f"labels: {len(labels)} of them; at most {_MAX_LABELS}")
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance] (as above)
            raise TypeError(f"labels={{{name!r}: {value!r}}}: both must be text")
        if not _LABEL_NAME.fullmatch(name):
            raise ValueError(
                f"labels: the name {name[:100]!r} must be up to 64 letters, digits, '_', '.' or '-', a letter first"
            )
        if len(value) > _MAX_LABEL_LENGTH:
            raise ValueError(f"labels: {name} has {len(value):,} characters; at most {_MAX_LABEL_LENGTH}")
    return dict(labels)


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
