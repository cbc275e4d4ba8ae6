"""CPUs, memory and shared memory that this process may use, read from the kernel's files."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

from .cgroups import control_groups, read_number

__all__ = ["Amount", "address_limit", "available_cpus", "available_memory", "free_shared_memory", "memory_pressure"]

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory lives on Linux)
_UNLIMITED = 1 << 60  # cgroup v1 writes a huge number for "no limit"


class Amount(NamedTuple):
    """A limit and where it comes from."""

    value: int  # number of CPUs, or bytes
    source: str  # origin of the limit, for messages


def available_cpus() -> Amount:
    """Number of CPUs that this process may use at once: the smaller of its affinity and its cgroup's quota, at least 1."""
    candidates = [Amount(len(os.sched_getaffinity(0)), "affinity")]
    for directory in control_groups("cpu"):
        quota = _cpu_quota(directory)
        if quota is not None:
            candidates.append(Amount(max(int(quota), 1), f"cgroup quota of {quota:.2g} ({directory})"))
    return min(candidates)


def available_memory() -> Amount:
    """Bytes of memory that this process may use: the smallest of the machine's memory and its cgroups' limits."""
    candidates = [Amount(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "the host's memory")]
    for directory in control_groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = read_number(directory / name)
            if limit is not None and limit < _UNLIMITED:
                candidates.append(Amount(limit, f"cgroup limit ({directory / name})"))
    return min(candidates)


def memory_pressure(
    *, proc: Path = Path("/proc"), listing: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> tuple[float, float]:
    """Memory pressure of the machine or of this process's cgroup, whichever is higher.

    Returns:
        The share of memory that is available without swapping; and the share of the last ten seconds in which a process was
        stalled on memory (pressure stall information), 0 if the kernel does not report it.
    """
    available, stalled = [_available_share(proc / "meminfo")], [_stalled_share(proc / "pressure/memory")]
    for directory in control_groups("memory", listing=listing, mount=mount):
        limit, usage = read_number(directory / "memory.max"), read_number(directory / "memory.current")
        if limit and usage is not None:
            available.append(1 - (usage - _reclaimable_bytes(directory)) / limit)
            stalled.append(_stalled_share(directory / "memory.pressure"))
    return max(min(available), 0.0), max(stalled)


def free_shared_memory() -> Amount | None:
    """Free bytes of shared memory; None if unknown."""
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return None
    size = status.f_blocks * status.f_frsize
    return Amount(status.f_bavail * status.f_frsize, f"free in {_SHARED_MEMORY}, whose size is {size:,} bytes,")


def address_limit() -> int | None:
    """Maximum bytes of a mapping or a file of this process (RLIMIT_AS, RLIMIT_FSIZE); None: no limit."""
    soft = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE))
    return min((limit for limit in soft if limit != resource.RLIM_INFINITY), default=None)


def _cpu_quota(directory: Path) -> float | None:
    try:
        quota, period = (directory / "cpu.max").read_text().split()  # v2: "max 100000" or "150000 100000"
    except (OSError, ValueError):
        quota_us = read_number(directory / "cpu.cfs_quota_us")  # v1
        period_us = read_number(directory / "cpu.cfs_period_us")
        return quota_us / period_us if quota_us and period_us and quota_us > 0 else None
    return None if quota == "max" else int(quota) / int(period)


def _available_share(path: Path) -> float:
    try:
        sizes = dict(line.split(":", 1) for line in path.read_text().splitlines())
        return int(sizes["MemAvailable"].split()[0]) / int(sizes["MemTotal"].split()[0])
    except (OSError, ValueError, KeyError):
        return 1.0


def _stalled_share(path: Path) -> float:
    """Share of time stalled on memory, from a line as "some avg10=0.00 avg60=..." (percent)."""
    try:
        some = path.read_text().splitlines()[0]
        return float(some.split("avg10=")[1].split()[0]) / 100
    except (OSError, ValueError, IndexError):
        return 0.0


def _reclaimable_bytes(directory: Path) -> int:
    """Bytes of a cgroup's usage that are inactive file cache, which the kernel frees when memory is needed."""
    try:
        sizes = dict(line.split() for line in (directory / "memory.stat").read_text().splitlines())
        return int(sizes["inactive_file"])
    except (OSError, ValueError, KeyError):
        return 0
