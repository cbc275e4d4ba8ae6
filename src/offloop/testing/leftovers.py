"""What a pool may have left behind: in its books, among this process's children, in /dev/shm."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic, sleep

import msgspec

from ..pool import Pool
from ..statistics import Statistics

__all__ = ["Surroundings", "assert_books_balance", "assert_nothing_left"]

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (looked at, not written to)
_WAIT_LIMIT_S = 1.0  # for names in /dev/shm that other processes of the machine make and unlink


class Surroundings(msgspec.Struct, frozen=True):
    """The children of this process, and the pieces of shared memory that have a name, at one moment."""

    children: frozenset[str]
    """Living or unreaped, each as "pid command"; but for the resource tracker, which the standard library keeps."""

    shared_memory: frozenset[str]
    """Names in /dev/shm such as `multiprocessing.shared_memory` gives; none where there is no /dev/shm."""

    @classmethod
    def now(cls) -> Surroundings:
        """Look."""
        return cls(_children(), _shared_memory())

    def assert_nothing_new(self) -> None:
        """Refuse a child or a name that was not there when this was made. May take a second where there is one.

        Raises:
            AssertionError: naming it.
        """
        children = _children() - self.children
        assert not children, f"child processes are left: {sorted(children)}"
        names = _shared_memory() - self.shared_memory
        deadline = monotonic() + _WAIT_LIMIT_S
        while names and monotonic() < deadline:
            sleep(0.01)
            names &= _shared_memory()
        assert not names, f"names are left in /dev/shm: {sorted(names)}"


def assert_nothing_left(pool: Pool, before: Surroundings | None = None) -> None:
    """Refuse a closed pool that left anything behind: an unsettled task, a lease, a worker; and, if you say what was there
    before, any child process or name in /dev/shm that was not. Results that are still referred to are leases: drop them first.

    Args:
        pool: it was entered and left.
        before: made before the pool was entered. None: no worker process of any pool may be there.

    Raises:
        AssertionError: naming what is left.
    """
    statistics = pool.statistics()
    assert_books_balance(statistics)
    assert not statistics.workers, f"the pool is not closed: {statistics.workers}"
    held = {holder: count for holder, count in statistics.leases.items() if count}
    assert not held, (
        f"blocks of shared memory are still held, by {held}: is a Result, a view of one or a Buffer still referred to?"
    )
    assert statistics.memory_used_bytes == 0, f"{statistics.memory_used_bytes:,} bytes of shared memory are still in use"
    assert statistics.memory_reserved_bytes == 0, f"{statistics.memory_reserved_bytes:,} bytes of pages are still reserved"
    if before is not None:
        before.assert_nothing_new()
    else:
        workers = {child for child in _children() if "offloop.worker" in child}
        assert not workers, f"worker processes are left: {sorted(workers)}"


def assert_books_balance(statistics: Statistics) -> None:
    """Refuse numbers in which a task has no outcome, or more than one; of a pool where none waits or runs at this moment.

    Raises:
        AssertionError: with the numbers.
    """
    outcomes = {
        name: int(getattr(statistics, name))
        for name in ("completed", "failed", "timed_out", "cancelled", "worker_died", "refused")
    }
    waiting, running = statistics.waiting, statistics.running
    assert (waiting, running) == (0, 0), f"{waiting} tasks wait and {running} run: none may"
    assert statistics.submitted == sum(outcomes.values()), f"{statistics.submitted} tasks came, and these ended: {outcomes}"


def _children() -> frozenset[str]:
    found: set[str] = set()
    me = os.getpid()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if int(_read(f"/proc/{pid}/stat").rpartition(b")")[2].split()[1]) != me:
                continue
            command = os.fsdecode(_read(f"/proc/{pid}/cmdline")).replace("\0", " ")
        except (OSError, ValueError, IndexError):
            continue  # it ended while we looked
        if "resource_tracker" not in command:
            found.add(f"{pid} {command}")
    return frozenset(found)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(1 << 20)  # one call: this is done for every process of the machine, around every test


def _shared_memory() -> frozenset[str]:
    return frozenset(entry.name for entry in _SHARED_MEMORY.glob("psm_*")) if _SHARED_MEMORY.is_dir() else frozenset()
