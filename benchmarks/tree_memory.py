"""Measures memory and CPU time of a process and all its descendants from outside.

Memory is the sum of proportional set sizes (PSS), in which a page that several processes map counts once. Reserved pages of
shared memory that no process maps are in no PSS. They count as well, and are found by the descriptors of the root process.

Reading a PSS takes 8 ms per GiB, because the kernel walks page tables. So the private resident pages are sampled often, and the
PSS is read only at a new maximum of those, ten times a second at most. Reading it at every new maximum took 0.2 CPUs from the
measured processes while a gigabyte was being filled.
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
_TREE_EVERY_S = 0.2  # seconds between two searches for new processes; a process needs half of that to start
_NEW_HIGH = 1.005
_PAGE_NBYTES = os.sysconf("SC_PAGESIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class _Pss(NamedTuple):
    own: int
    shared: int  # shared memory in bytes; mapped files are in `own`


class TreeMemory:
    """Context manager that measures in a thread of this process. `peak_bytes` is the highest sum so far."""

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
        """Returns the current sum in bytes."""
        reserved = _reserved_bytes(self._root)
        sizes = [_pss(pid) for pid in self._pids]
        return sum(size.own for size in sizes) + max(sum(size.shared for size in sizes), reserved)

    def cpu_s(self) -> float:
        """Returns the CPU time of all processes so far; of ended processes, the last sample."""
        self._look_at_tree()
        return sum(self._cpu.copy().values())

    def cpu_of_root_s(self) -> float:
        """Returns the CPU time of the root process alone, at the last call of `cpu_s`."""
        return self._cpu.get(self._root, 0.0)

    def restart(self) -> None:
        """Forget the peak: it is measured from now on."""
        self.peak_bytes = self.now_bytes()
        self._highest_cheap = 0

    def _watch(self) -> None:
        with suppress(PermissionError):  # because the measuring thread must not wait for a CPU behind the measured processes
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
    """Returns the CPU time that all processes of this machine have used, and that its host has taken from it (steal)."""
    user, nice, system, _idle, _waiting, irq, soft_irq, steal = map(int, Path("/proc/stat").read_text().split(maxsplit=9)[1:9])
    return (user + nice + system + irq + soft_irq + steal) / _TICKS_PER_S


def _pss(pid: int) -> _Pss:
    """Returns the proportional set size of one process; zero if it has ended."""
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
    """Returns the bytes of all shared memory of which the process has a descriptor."""
    files: dict[tuple[int, int], int] = {}
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                link = f"/proc/{pid}/fd/{fd}"
                if os.readlink(link).startswith(("/dev/shm/", "/memfd:")):
                    found = os.stat(link)
                    files[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(files.values())
