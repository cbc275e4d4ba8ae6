"""Measures and limits the private memory of the worker process."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress

__all__ = ["PrivateMemory"]

_SAMPLE_INTERVAL_NS = 50_000_000  # minimum time between two samples, because one costs a few microseconds
_MIN_MEASURED_NS = 1_000_000  # duration of the shortest task whose peak is measured, because that costs 20 microseconds
_MIN_MEASURED_RESULT_NBYTES = 1024 * 1024  # size of the smallest result before which the peak is read; also the largest error
_PAGE_NBYTES = os.sysconf("SC_PAGESIZE")
_RESET_PEAK = b"5"  # to /proc/self/clear_refs, see proc(5)


class PrivateMemory:
    """Private memory of the process: resident pages that belong neither to a file nor to shared memory; 0 without /proc."""

    def __init__(self) -> None:
        self.nbytes = 0  # private memory at the last sample, in bytes
        self._data_nbytes = 0  # address space that RLIMIT_DATA counts, at the last sample, in bytes
        self._baseline_nbytes = 0  # private memory without the current task's, in bytes
        self._baseline_data_nbytes = 0  # `_data_nbytes` without the current task's, in bytes
        self._sampled_at_ns = 0  # monotonic time of the last sample
        self._began_at_ns = 0  # monotonic time of the current task's start
        self._is_peak_stale = False  # whether VmHWM includes an earlier task's peak
        self._peak_before_results_nbytes = 0  # peak of the current task until its last grant of result memory, in bytes
        self._max_sampled_nbytes = 0  # highest sample during the current task, in bytes
        self._limit_nbytes: int | None = None  # current soft RLIMIT_DATA in bytes; None: never set
        self._statm_fd = _try_open("/proc/self/statm", os.O_RDONLY)
        self._status_fd = _try_open("/proc/self/status", os.O_RDONLY)
        self._peak_fd = _try_open("/proc/self/clear_refs", os.O_WRONLY)

    def sample(self) -> int:
        """Returns the private memory in bytes. The value is at most 50 ms old."""
        now_ns = time.monotonic_ns()
        if now_ns - self._sampled_at_ns > _SAMPLE_INTERVAL_NS:
            self._sample(now_ns)
        return self.nbytes

    def _sample(self, now_ns: int) -> None:
        if self._statm_fd >= 0:
            self._sampled_at_ns = now_ns
            _, resident, shared, _, _, data, *_ = os.pread(self._statm_fd, 128, 0).split()
            self.nbytes = (int(resident) - int(shared)) * _PAGE_NBYTES
            self._data_nbytes = int(data) * _PAGE_NBYTES
            self._max_sampled_nbytes = max(self._max_sampled_nbytes, self.nbytes)

    def rebaseline(self) -> int:
        """Measure the private memory, and count all of it as the process's own instead of a task's. Returns it in bytes."""
        self._sampled_at_ns = 0
        self.sample()
        self._baseline_nbytes, self._baseline_data_nbytes = self.nbytes, self._data_nbytes
        return self.nbytes

    def begin(self, now_ns: int) -> int:
        """Start to measure a task. Returns the private memory before the task in bytes, at most 50 ms old."""
        if now_ns - self._sampled_at_ns > _SAMPLE_INTERVAL_NS:
            self._sample(now_ns)
        self._began_at_ns = now_ns
        self._baseline_nbytes = self.nbytes
        self._baseline_data_nbytes = self._data_nbytes
        self._peak_before_results_nbytes = self._max_sampled_nbytes = 0
        if self._is_peak_stale:
            self._reset_peak()
        return self.nbytes

    def begin_result(self, nbytes: int) -> None:
        """Record the task's peak before it gets result memory of `nbytes`.

        VmHWM includes the pages of results, and `peak` subtracts them. If a task frees private memory and then fills its
        result, VmHWM does not rise. So the peak before the result is recorded, because the result must not be subtracted from
        it.
        """
        if nbytes >= _MIN_MEASURED_RESULT_NBYTES and self._status_fd >= 0:
            self._peak_before_results_nbytes = max(self._peak_before_results_nbytes, self._private_peak())
            self._reset_peak()

    def peak(self, now_ns: int) -> int:
        """Returns the peak of private memory since `begin`, in bytes above the memory before it; 0 if the task took less than
        1 ms. Call it once, at the end of the task."""
        if now_ns - self._began_at_ns < _MIN_MEASURED_NS or self._status_fd < 0:
            return 0
        self._is_peak_stale = True
        self._sampled_at_ns = 0  # because samples during the task include its memory
        highest = max(self._private_peak(), self._peak_before_results_nbytes, self._max_sampled_nbytes)
        return max(highest - self._baseline_nbytes, 0)

    def _private_peak(self) -> int:
        """Returns VmHWM without the present pages of files and of shared memory, in bytes."""
        sizes = dict(line.split(b":", 1) for line in os.pread(self._status_fd, 4096, 0).splitlines() if b"kB" in line)
        peak, files, shared = (int(sizes[key].split()[0]) * 1024 for key in (b"VmHWM", b"RssFile", b"RssShmem"))
        return peak - files - shared

    def _reset_peak(self) -> None:
        """Reset VmHWM to the present memory."""
        if self._peak_fd >= 0:
            os.pwrite(self._peak_fd, _RESET_PEAK, 0)
            self._is_peak_stale = False

    def set_soft_limit(self, more_bytes: int | None) -> None:
        """Limit the process to `more_bytes` above its memory before the task; further allocations fail. None: no limit.

        RLIMIT_DATA counts private writable addresses, even if they are unused. So it is a little stricter than a limit of
        memory.
        """
        limit = resource.RLIM_INFINITY if more_bytes is None else self._baseline_data_nbytes + more_bytes
        if limit == self._limit_nbytes:
            return
        self._limit_nbytes = limit
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard != resource.RLIM_INFINITY:
            limit = hard if limit == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))

    def set_hard_limit(self, nbytes: int) -> None:
        """Limit the private memory of the process for its lifetime."""
        with suppress(ValueError, OSError):  # a stricter limit exists already
            resource.setrlimit(resource.RLIMIT_DATA, (nbytes, nbytes))


def _try_open(path: str, flags: int) -> int:
    with suppress(OSError):  # a container without /proc
        return os.open(path, flags | os.O_CLOEXEC)
    return -1
