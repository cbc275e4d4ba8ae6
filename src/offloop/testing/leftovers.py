"""Checks that a pool left nothing behind: in its statistics, in this process's children, in /dev/shm."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic, sleep

import msgspec

from ..pool import Pool
from ..statistics import Statistics

__all__ = ["Surroundings", "assert_books_balance", "assert_nothing_left"]

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (only read)
_MAX_WAIT_S = 1.0  # maximum seconds to wait for names that other processes of the machine create and unlink


class Surroundings(msgspec.Struct, frozen=True):
    """Snapshot of this process's children and of the named shared memory."""

    children: frozenset[str]
    """Child processes that run or are not reaped, as "pid command", without the standard library's resource tracker."""

    shared_memory: frozenset[str]
    """Names of `multiprocessing.shared_memory` in /dev/shm; empty without a /dev/shm."""

    @classmethod
    def now(cls) -> Surroundings:
        """Take a snapshot."""
        return cls(_children(), _shared_memory())

    def assert_nothing_new(self) -> None:
        """Check that there is no child and no name that is not in this snapshot. Waits up to a second for new names to
        disappear.

        Raises:
            AssertionError: there is a new child or name; the text contains it.
        """
        children = _children() - self.children
        assert not children, f"child processes are left: {sorted(children)}"
        names = _shared_memory() - self.shared_memory
        deadline = monotonic() + _MAX_WAIT_S
        while names and monotonic() < deadline:
            sleep(0.01)
            names &= _shared_memory()
        assert not names, f"names are left in /dev/shm: {sorted(names)}"


def assert_nothing_left(pool: Pool, before: Surroundings | None = None) -> None:
    """Check that a closed pool has no unsettled task, lease or worker; and with `before`, that there is no new child process
    and no new name in /dev/shm. Drop all results first, because a result that is still referenced has a lease.

    Args:
        pool: a pool that was entered and left.
        before: snapshot from before the pool was entered. None: there must be no worker process of any pool.

    Raises:
        AssertionError: something is left; the text contains it.
    """
    statistics = pool.statistics()
    assert_books_balance(statistics)
    assert not statistics.workers, f"the pool is not closed: {statistics.workers}"
    leases = {holder: count for holder, count in statistics.leases.items() if count}
    assert not leases, (
        f"blocks of shared memory are still leased, by {leases}: is a Result, a view of one or a Buffer still referenced?"
    )
    assert statistics.memory_used_bytes == 0, f"{statistics.memory_used_bytes:,} bytes of shared memory are still in use"
    assert statistics.memory_reserved_bytes == 0, f"{statistics.memory_reserved_bytes:,} bytes of pages are still reserved"
    if before is not None:
        before.assert_nothing_new()
    else:
        workers = {child for child in _children() if "offloop.worker" in child or "offloop.testing.fault_worker" in child}
        assert not workers, f"worker processes are left: {sorted(workers)}"


def assert_books_balance(statistics: Statistics) -> None:
    """Check that every submitted task has exactly one outcome, and that no task waits or runs.

    Raises:
        AssertionError: the numbers do not match; the text contains them.
    """
    outcomes = {
        name: int(getattr(statistics, name))
        for name in ("completed", "failed", "timed_out", "cancelled", "worker_died", "refused")
    }
    waiting, running = statistics.waiting, statistics.running
    assert (waiting, running) == (0, 0), f"{waiting} tasks wait and {running} run; there must be none"
    assert statistics.submitted == sum(outcomes.values()), f"{statistics.submitted} tasks submitted, but outcomes: {outcomes}"


def _children() -> frozenset[str]:
    found: set[str] = set()
    own_pid = os.getpid()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1]) != own_pid:
                continue
            command = os.fsdecode(_read(f"/proc/{pid}/cmdline")).replace("\0", " ")
        except (OSError, ValueError, IndexError):
            continue  # the process has ended meanwhile
        if "resource_tracker" not in command:
            found.add(f"{pid} {command}")
    return frozenset(found)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(1 << 20)  # one call, because every test reads a file of every process of the machine


def _shared_memory() -> frozenset[str]:
    return frozenset(entry.name for entry in _SHARED_MEMORY.glob("psm_*")) if _SHARED_MEMORY.is_dir() else frozenset()
