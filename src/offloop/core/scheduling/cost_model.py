"""Cost model: the time and memory that a task is likely to take, learned from finished tasks of its kind.

The estimate of the plugin is multiplied by a learned factor. Without an estimate, a guess from the length of the source takes
its place. Tasks are of one kind if they have the same pipeline and media type; without an estimate, if they have the same
pipeline and sources of about the same length (within a factor of two). Because a factor is learned, an image that is four times
as large still costs four times as much. The number of kinds is bounded (the least recently seen ones are forgotten), and so are
the factors, because workers are not trusted.

The time factor follows the mean of the measurements. The memory factor is the mean plus twice the mean deviation, as in the
retransmission time of TCP (Jacobson, 1988). So memory that varies is charged with a margin.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from ...wire.messages import Done, Failed
from ..model.task import TaskSpec
from ..model.task_record import TaskRecord
from ..telemetry.histogram_recorder import Recorder
from .overtaking import StableCostFactor, overtaking_limit_s

__all__ = ["DEFAULT_PEAK_BYTES", "DEFAULT_PEAK_BYTES_PER_BYTE", "CostModel", "Pace"]

DEFAULT_PEAK_BYTES = 32 * 1024 * 1024  # guessed peak memory of a task without an estimate and without a source
DEFAULT_PEAK_BYTES_PER_BYTE = 8  # guessed peak memory for each byte of the source: about a decoded photograph

_MAX_RATIO = 1e6  # largest recorded ratio, because a worker can report any number

_MIN_S = 1e-6  # smallest estimated time in seconds

_CAPACITY = 1024  # kinds of tasks that are remembered
_GUESS_S = 0.005  # guessed time of a task without a source, in seconds
_GUESS_S_PER_BYTE = 100e-9  # guessed time for each byte of the source: about the time to decode and process a JPEG
_KIND_NBYTES = 1024  # bytes of a stage's operations that distinguish kinds: operations may have a megabyte, most of it data
_WEIGHT_OF_NEW = 0.25  # weight of the newest measurement in a mean, so that one task changes little
_MARGIN = 2.0  # mean deviations that are added to the mean memory factor
_NOISE_BYTES = 16 * 1024 * 1024  # added to measured and estimated peaks: small tasks reuse memory, so their peaks are noise
_MIN_SAMPLES = 3  # tasks of a kind after which the model has observed it
_MIN_FACTOR, _MAX_FACTOR = 0.25, 16.0  # bounds of a memory factor, and of the time factor of a plugin's estimate
_MAX_GUESS_FACTOR = 1024.0  # bound of the memory factor of a guess, which knows nothing: 32 GiB for a call without a source
_FACTOR_AFTER_LIMIT = 2.0  # increase of a guess after a task reached its memory limit, because its real need is not known
_MAX_COST_S = 1e6  # eleven days; sums of larger numbers would lose the small ones
_NEGLIGIBLE_S = 0.001  # seconds below which nothing is learned, because learning would be a part of the cost
_NEGLIGIBLE_NBYTES = _GUESS_S / _GUESS_S_PER_BYTE  # size of a source from which something is learned in any case

SHORT_S = 0.001  # seconds of the longest task that is short
_WEIGHT_IN_PACE = 0.125  # weight of the newest duration in the mean of a pace

_Kind = tuple[int | str, tuple[tuple[str, bytes | str], ...]]  # size class or media type; plugin and operations of each stage


class Pace:
    """How long the last tasks of one kind took, to recognize those that take less than a message and its answer."""

    __slots__ = ("mean_s", "short_runs")

    def __init__(self) -> None:
        self.mean_s = 0.0  # mean of the last short durations in seconds
        self.short_runs = 0  # number of short tasks in a row

    @property
    def is_short(self) -> bool:
        """Whether the next task is expected to be short."""
        return self.short_runs >= _MIN_SAMPLES

    def observe(self, seconds: float) -> None:
        """Note how long a task took in its worker, which may report any number."""
        if 0.0 <= seconds <= SHORT_S:
            self.short_runs += 1
            self.mean_s += _WEIGHT_IN_PACE * (seconds - self.mean_s)
        else:
            self.short_runs = 0


class _Correction:
    """Ratios of measured to estimated (or guessed) cost of the tasks of one kind."""

    def __init__(self, max_factor: float) -> None:
        self.max_factor = max_factor  # bound of the memory factor
        self.time = 1.0  # mean of the time ratios
        self.stable_time = StableCostFactor()
        self.memory = 1.0  # mean of the memory ratios
        self.deviation = 0.0  # mean deviation of the memory ratios from their mean
        self.tasks = 0  # number of measured times
        self.peaks = 0  # number of measured peaks
        self.memory_factor = 1.0  # factor for estimates of memory: mean plus margin


class CostModel:
    """Learned corrections, by kind of task."""

    def __init__(self) -> None:
        self.time_ratios = Recorder()  # ratios of measured to predicted time
        self.memory_ratios = Recorder()  # ratios of measured to predicted peak memory
        self._corrections: OrderedDict[_Kind, _Correction] = OrderedDict()
        self._paces: dict[_Kind, Pace] = {}

    def __len__(self) -> int:
        return len(self._corrections)

    def predict(self, task: TaskRecord) -> None:
        """Set the task's predicted time, memory and place."""
        spec = task.spec
        cost_s, peak_bytes = _prior(task, spec)
        if spec.estimate is not None:
            task.output_bytes = spec.estimate.output_bytes
        task.estimated_s = cost_s
        kind = task.kind = _kind_of(task)
        task.pace = self._paces.get(kind)
        correction = self._corrections.get(kind)
        if correction is None:
            task.place_s = task.arrived_s + overtaking_limit_s(cost_s)
        else:
            task.cost_factor = correction.stable_time
            task.place_s = correction.stable_time.place_s(task.arrived_s, cost_s)
            cost_s *= correction.time
            peak_bytes = _corrected_peak(peak_bytes, correction)
        task.cost_s = cost_s if cost_s < _MAX_COST_S else _MAX_COST_S  # noqa: FURB136 (min() is slower)
        task.peak_bytes = peak_bytes if spec.memory_limit_bytes is None else _within_limit(peak_bytes, spec)

    def fill_in_memory(self, task: TaskRecord) -> bool:
        """Set the task's predicted memory again, if something was learned about its kind. Returns whether something was."""
        spec = task.spec
        correction = self._corrections.get(task.kind or _kind_of(task))
        if correction is None:
            return False
        task.peak_bytes = _within_limit(_corrected_peak(_prior(task, spec)[1], correction), spec)
        return True

    def has_observed(self, task: TaskRecord) -> bool:
        """Whether at least three tasks of its kind have been measured."""
        if not self._corrections:
            return False
        correction = self._corrections.get(task.kind or _kind_of(task))
        return correction is not None and correction.tasks >= _MIN_SAMPLES

    def observe(
        self, task: TaskRecord, answer: Done | Failed, seconds: float, *, first: bool = False, clock_s: float = 0.0
    ) -> None:
        """Learn from a finished task.

        Measurements of the worker are bounded. Nothing is learned from a failed task, because a false header makes its estimate
        wrong. The one exception is a task without an estimate that reached its memory limit: the guess is too low, and no other
        measurement would show it.

        Args:
            task: the task.
            answer: the worker's answer.
            seconds: how long the worker was busy with the task.
            first: whether it was the worker's first task; its time is ignored, because plugins were loaded in it.
            clock_s: the time on the work clock.
        """
        spec = task.spec
        if isinstance(answer, Done):
            self._observe_pace(task, (answer.finished_ns - answer.started_ns) / 1e9)
        if seconds < _NEGLIGIBLE_S and task.nbytes < _NEGLIGIBLE_NBYTES:
            return
        at_limit = isinstance(answer, Failed) and answer.code == "memory_limit" and spec.estimate is None
        if isinstance(answer, Failed) and not at_limit:
            return
        prior_s, prior_bytes = _prior(task, spec)
        if first and not at_limit and answer.peak_bytes <= 0:
            return
        max_factor = _MAX_GUESS_FACTOR if spec.estimate is None else _MAX_FACTOR
        correction = self._touch(task.kind or _kind_of(task), max_factor)
        if at_limit:
            correction.memory = _bounded(correction.memory * _FACTOR_AFTER_LIMIT, max_factor)
            _update_memory_factor(correction)
            return
        if not first:
            self._observe_time(correction, task, _busy_s(answer, seconds), prior_s, clock_s)
        if answer.peak_bytes > 0:
            self.memory_ratios.record(min(answer.peak_bytes / max(task.peak_bytes, 1), _MAX_RATIO))
            _add_memory_ratio(
                correction, _bounded((answer.peak_bytes + _NOISE_BYTES) / (prior_bytes + _NOISE_BYTES), max_factor)
            )
            _update_memory_factor(correction)

    def _observe_pace(self, task: TaskRecord, seconds: float) -> None:
        """Note how long a task took in its worker."""
        pace = task.pace
        if pace is None:
            pace = self._paces.setdefault(task.kind or _kind_of(task), Pace())
            if len(self._paces) > _CAPACITY:
                del self._paces[next(iter(self._paces))]
        pace.observe(seconds)

    def _observe_time(self, correction: _Correction, task: TaskRecord, busy_s: float, prior_s: float, clock_s: float) -> None:
        self.time_ratios.record(busy_s / max(task.cost_s, _MIN_S))
        factor = busy_s / prior_s
        factor = _bounded(factor) if _has_estimated_time(task.spec) else factor
        _add_time_ratio(correction, factor)
        correction.stable_time.observe(factor, clock_s)

    def _touch(self, kind: _Kind, max_factor: float) -> _Correction:
        correction = self._corrections.pop(kind, None) or _Correction(max_factor)
        self._corrections[kind] = correction
        if len(self._corrections) > _CAPACITY:
            self._corrections.popitem(last=False)
        return correction


def _prior(task: TaskRecord, spec: TaskSpec) -> tuple[float, int]:
    """Seconds and peak bytes without correction: the plugin's estimate, or a guess."""
    estimate = spec.estimate
    if estimate is None:
        return _guess(task.nbytes)
    work_s = max(estimate.work_s, _MIN_S) if estimate.work_s else _guess(task.nbytes)[0]
    return work_s, max(estimate.peak_bytes, 1)


def _has_estimated_time(spec: TaskSpec) -> bool:
    return spec.estimate is not None and spec.estimate.work_s > 0


def _corrected_peak(prior_bytes: int, correction: _Correction) -> int:
    factor = correction.memory_factor
    return prior_bytes if factor == 1.0 else max(int((prior_bytes + _NOISE_BYTES) * factor) - _NOISE_BYTES, 0)


def _within_limit(peak_bytes: int, spec: TaskSpec) -> int:
    """Returns the peak, but at most the limit that the caller gave, because the system refuses more to the task."""
    limit_bytes = spec.memory_limit_bytes
    return peak_bytes if limit_bytes is None else min(peak_bytes, limit_bytes)


def _guess(nbytes: int) -> tuple[float, int]:
    return _GUESS_S + nbytes * _GUESS_S_PER_BYTE, DEFAULT_PEAK_BYTES + nbytes * DEFAULT_PEAK_BYTES_PER_BYTE


def _busy_s(answer: Done | Failed, seconds: float) -> float:
    """The CPU time of a task that computed, because other processes do not change it; else the elapsed time."""
    cpu_s = answer.cpu_ns / 1e9
    return cpu_s if seconds / 2 < cpu_s < seconds else seconds


def _add_time_ratio(correction: _Correction, factor: float) -> None:
    correction.tasks += 1
    correction.time = factor if correction.tasks == 1 else correction.time + _WEIGHT_OF_NEW * (factor - correction.time)


def _add_memory_ratio(correction: _Correction, factor: float) -> None:
    correction.peaks += 1
    error = factor - correction.memory
    if correction.peaks == 1:
        correction.memory = factor
        return
    correction.memory += _WEIGHT_OF_NEW * error
    correction.deviation += _WEIGHT_OF_NEW * (abs(error) - correction.deviation)


def _update_memory_factor(correction: _Correction) -> None:
    correction.memory_factor = _bounded(correction.memory + _MARGIN * correction.deviation, correction.max_factor)


def _bounded(factor: float, max_factor: float = _MAX_FACTOR) -> float:
    return min(max(factor, _MIN_FACTOR), max_factor)


def _kind_of(task: TaskRecord) -> _Kind:
    spec = task.spec
    source = task.nbytes.bit_length() if spec.estimate is None else spec.media_type
    if spec.kind is not None:
        return source, spec.kind
    return source, tuple([(stage.plugin, _head_of(stage.operations)) for stage in spec.stages])


def _head_of(operations: msgspec.Raw) -> bytes:
    whole = len(operations) <= _KIND_NBYTES
    return bytes(operations) if whole else bytes(memoryview(operations)[:_KIND_NBYTES])
