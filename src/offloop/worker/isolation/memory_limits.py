"""How much memory this process has that nobody else shares, and how much it may have."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress

__all__ = ["PrivateMemory"]

_EVERY_NS = 50_000_000  # looking costs a few microseconds, and what matters changes more slowly
_MIN_MEASURED_NS = 1_000_000  # measuring a task's peak costs twenty microseconds
_RESULT_WORTH_MEASURING_NBYTES = 1024 * 1024  # a smaller result hides no more than that
_PAGE_NBYTES = os.sysconf("SC_PAGESIZE")
_RESET_PEAK = b"5"  # to /proc/self/clear_refs, see proc(5)


class PrivateMemory:
    """The resident pages that are neither a file's nor shared memory's, as last looked at; 0 where the system does not say."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._data_nbytes = 0  # addresses of the kind that RLIMIT_DATA limits
        self._own_nbytes = 0  # both, without the present task's: it is looked at while that runs, too
        self._own_data_nbytes = 0
        self._looked_at_ns = 0
        self._began_at_ns = 0
        self._peak_is_old = False
        self._peak_before_results_nbytes = 0  # of the present task, until it was last granted result memory
        self._most_seen_nbytes = 0  # of the present task, by the looks of the control thread
        self._limit_nbytes: int | None = None  # of the present task
        self._statm_fd = _maybe_open("/proc/self/statm", os.O_RDONLY)
        self._status_fd = _maybe_open("/proc/self/status", os.O_RDONLY)
        self._peak_fd = _maybe_open("/proc/self/clear_refs", os.O_WRONLY)

    def sample(self) -> int:
        """The number of bytes, at most a twentieth of a second old."""
        now_ns = time.monotonic_ns()
        if now_ns - self._looked_at_ns > _EVERY_NS:
            self._sample(now_ns)
        return self.nbytes

    def _sample(self, now_ns: int) -> None:
        if self._statm_fd >= 0:
            self._looked_at_ns = now_ns
            _, resident, shared, _, _, data, *_ = os.pread(self._statm_fd, 128, 0).split()
            self.nbytes = (int(resident) - int(shared)) * _PAGE_NBYTES
            self._data_nbytes = int(data) * _PAGE_NBYTES
            self._most_seen_nbytes = max(self._most_seen_nbytes, self.nbytes)

    def rebaseline(self) -> int:
        """The number of bytes now; all that there is now is the process's own, and not a task's."""
        self._looked_at_ns = 0
        self.sample()
        self._own_nbytes, self._own_data_nbytes = self.nbytes, self._data_nbytes
        return self.nbytes

    def begin(self, now_ns: int) -> int:
        """A task begins: from now on its peak is what counts. The number of bytes before it, hardly older than `look` says."""
        if now_ns - self._looked_at_ns > _EVERY_NS:
            self._sample(now_ns)
        self._began_at_ns = now_ns
        self._own_nbytes = self.nbytes
        self._own_data_nbytes = self._data_nbytes
        self._peak_before_results_nbytes = self._most_seen_nbytes = 0
        if self._peak_is_old:
            self._reset_peak()
        return self.nbytes

    def begin_result(self, nbytes: int) -> None:
        """The task gets result memory: take down its peak until now.

        VmHWM counts the pages of results, too. A task that frees private memory and then fills its result has no higher VmHWM
        for it, so what is subtracted for the result at the end must not be subtracted from what was before.
        """
        if nbytes >= _RESULT_WORTH_MEASURING_NBYTES and self._status_fd >= 0:
            self._peak_before_results_nbytes = max(self._peak_before_results_nbytes, self._private_peak())
            self._reset_peak()

    def peak(self, now_ns: int) -> int:
        """How much more it was at the highest since `begin` than before; 0 after a short time. The task is over."""
        if now_ns - self._began_at_ns < _MIN_MEASURED_NS or self._status_fd < 0:
            return 0
        self._peak_is_old = True
        self._looked_at_ns = 0  # what was seen while it ran is no more
        highest = max(self._private_peak(), self._peak_before_results_nbytes, self._most_seen_nbytes)
        return max(highest - self._own_nbytes, 0)

    def _private_peak(self) -> int:
        """VmHWM without the pages of files and of shared memory that there are now."""
        sizes = dict(line.split(b":", 1) for line in os.pread(self._status_fd, 4096, 0).splitlines() if b"kB" in line)
        peak, files, shared = (int(sizes[key].split()[0]) * 1024 for key in (b"VmHWM", b"RssFile", b"RssShmem"))
        return peak - files - shared

    def _reset_peak(self) -> None:
        """Let VmHWM begin anew at what there is now."""
        if self._peak_fd >= 0:
            os.pwrite(self._peak_fd, _RESET_PEAK, 0)
            self._peak_is_old = False

    def set_soft_limit(self, more_bytes: int | None) -> None:
        """From now on the process may take so much more than it has; whatever asks beyond that fails. None: any amount.

        RLIMIT_DATA counts addresses that are private and writable, used or not: it is a little stricter than the memory itself.
        """
        limit = resource.RLIM_INFINITY if more_bytes is None else self._own_data_nbytes + more_bytes
        if limit == self._limit_nbytes:
            return
        self._limit_nbytes = limit
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard != resource.RLIM_INFINITY:
            limit = hard if limit == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))

    def set_hard_limit(self, nbytes: int) -> None:
        """The process cannot have more than that for itself, and can never change it back."""
        with suppress(ValueError, OSError):  # a stricter limit is there already
            resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))


def _maybe_open(path: str, flags: int) -> int:
    with suppress(OSError):  # no such file: this container has no /proc
        return os.open(path, flags | os.O_CLOEXEC)
    return -1
