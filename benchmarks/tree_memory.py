"""How much memory and CPU time a process and all its descendants take, watched from outside.

Memory is the sum of proportional set sizes (PSS), in which a page that several of them map counts once. Pages of shared
memory that are reserved and mapped by nobody are in no PSS, but they are taken: they count as well, found through the
descriptors of the root process.

Looking at a PSS takes 8 ms for each GiB, as page tables are walked. So what is looked at often is cheap, the resident pages
that are not shared, and the PSS only when those are at a new high, ten times a second at most: while a gigabyte was being
filled, looking at each new high took a fifth of a CPU more from those who were watched.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import NamedTuple, Self

__all__ = ["TreeMemory", "machine_cpu_s"]

_EVERY_S = 0.02
_PSS_EVERY_S = 0.1
_TREE_EVERY_S = 0.2  # a new process takes half as long to start
_NEW_HIGH = 1.005
_PAGE_NBYTES = os.sysconf("SC_PAGESIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class _Pss(NamedTuple):
    own: int
    shared: int  # of shared memory; files that are mapped are in `own`


class TreeMemory:
    """Watches from entering to leaving the block, in a thread of this process. `peak_bytes` is the highest sum so far."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._pids: list[int] = [root]
        self._cpu: dict[int, float] = {}
        self._highest_cheap = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def now_bytes(self) -> int:
        """The sum at this moment."""
        reserved = _reserved_bytes(self._root)
        sizes = [_pss(pid) for pid in self._pids]
        return sum(size.own for size in sizes) + max(sum(size.shared for size in sizes), reserved)

    def cpu_s(self) -> float:
        """CPU time of all processes so far; those that are gone as last seen."""
        self._look_at_tree()
        return sum(self._cpu.copy().values())

    def _watch(self) -> None:
        with suppress(PermissionError):  # who watches must not wait for a CPU behind those who are watched
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -10)
        next_tree = next_pss = 0.0
        while not self._stop.wait(_EVERY_S):
            if monotonic() >= next_tree:
                next_tree = monotonic() + _TREE_EVERY_S
                self._look_at_tree()
            cheap = sum(map(_private_bytes, self._pids)) + _reserved_bytes(self._root)
            if cheap > self._highest_cheap * _NEW_HIGH and monotonic() >= next_pss:
                self._highest_cheap = cheap
                self.peak_bytes = max(self.peak_bytes, self.now_bytes())
                next_pss = monotonic() + _PSS_EVERY_S

    def _look_at_tree(self) -> None:
        children: dict[int, list[int]] = {}
        cpu: dict[int, float] = {}
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError):
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(name))
                cpu[int(name)] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        found = [self._root]
        for pid in found:
            found += children.get(pid, [])
        self._pids = found
        self._cpu |= {pid: cpu[pid] for pid in found if pid in cpu}


def machine_cpu_s() -> float:
    """CPU time that everybody on this machine has taken, and its host from it."""
    user, nice, system, _idle, _waiting, irq, soft_irq, steal = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + soft_irq + steal) / _TICKS_PER_S


def _pss(pid: int) -> _Pss:
    """The proportional set size of one process; nothing if it is gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        if sizes:
            return _Pss(sizes["Pss"] - sizes["Pss_Shmem"], sizes["Pss_Shmem"])
    return _Pss(0, 0)


def _private_bytes(pid: int) -> int:
    with suppress(OSError):
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return (int(resident) - int(shared)) * _PAGE_NBYTES
    return 0


def _reserved_bytes(pid: int) -> int:
    """Pages of all shared memory that the process has a descriptor of."""
    files: dict[tuple[int, int], int] = {}
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                link = f"/proc/{pid}/fd/{fd}"
                if os.readlink(link).startswith(("/dev/shm/", "/memfd:")):
                    found = os.stat(link)
                    files[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(files.values())
