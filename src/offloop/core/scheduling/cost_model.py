"""What a task is likely to take: what its plugin says beforehand, corrected by what tasks of its kind took.

Where the plugin says nothing, there is a guess from the length of the source. Tasks are of one kind that have the same pipeline
and the same format; without an estimate, the same pipeline and sources of about the same length (within a factor of two). What
is learned is a factor, so that a picture four times as large is still four times as much. It is bounded in number (the kinds
that were least recently seen are forgotten) and in size, because workers are not trusted.

Time follows what tasks took on average; memory the same and twice the usual distance from it, as the retransmission time of TCP
does (Jacobson, 1988): what is always the same is charged for as it is, what varies with a margin.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from ...wire.messages import Done, Failed
from ..model.task import TaskRecord, TaskSpec
from ..telemetry.histogram_recorder import Recorder
from .overtaking import StableCostFactor, overtaking_limit_s

__all__ = ["DEFAULT_PEAK_BYTES", "DEFAULT_PEAK_BYTES_PER_BYTE", "CostModel"]

DEFAULT_PEAK_BYTES = 32 * 1024 * 1024  # of a task about which nobody says anything...
DEFAULT_PEAK_BYTES_PER_BYTE = 8  # ...and so much for each byte of its source: about what a photograph takes decoded

_MAX_RATIO = 1e6  # that is counted: a worker can say what it likes

_MIN_S = 1e-6  # that anything takes

_CAPACITY = 1024  # kinds of tasks that are remembered
_GUESS_S = 0.005  # for a task of no bytes...
_GUESS_S_PER_BYTE = 100e-9  # ...and about what decoding a JPEG and making something of it takes for each byte of the file
_SIZE_CLASS_NBYTES = 1024  # of a stage's operations: they may have a megabyte, of data more than of what is to be done
_WEIGHT_OF_NEW = 0.25  # of the newest of several: four tasks change the mind, one does not
_MARGIN = 2.0  # usual distances
_NOISE_BYTES = 16 * 1024 * 1024  # of what little tasks take nothing follows for large ones: they use again what is there
_MIN_SAMPLES = 3
_MIN_FACTOR, _MAX_FACTOR = 0.25, 16.0  # of a correction of memory, or of a plugin's word: beyond that nobody is believed
_FACTOR_AFTER_LIMIT = 2.0  # of a guess: a task that ran into the limit on its memory needed more, but not known how much
_MAX_COST_S = 1e6  # eleven days: beyond that a number is no time, and sums of such lose the small ones
_NEGLIGIBLE_S = 0.001  # whatever is done in less is cheap, and learning would be a part of its cost...
_NEGLIGIBLE_NBYTES = _GUESS_S / _GUESS_S_PER_BYTE  # ...unless it was guessed to be dear

_Kind = tuple[int | str | tuple[str, bytes], ...]  # how large, or of which media type; what is to be done


class _Correction:
    """What the tasks of a kind took, as a multiple of what was said or guessed."""

    def __init__(self) -> None:
        self.time = 1.0
        self.steady_time = StableCostFactor()  # the same, changed on strong evidence only
        self.memory = 1.0
        self.distance = 0.0  # that memory usually is from that
        self.tasks = 0
        self.peaks = 0  # tasks whose memory is known
        self.memory_factor = 1.0  # that follows: what estimates of memory are multiplied by


class CostModel:
    """What was learned, by kind of task."""

    def __init__(self) -> None:
        self.time_ratios = Recorder()  # of what tasks took to what was estimated...
        self.memory_ratios = Recorder()  # ...corrections included
        self._corrections: OrderedDict[_Kind, _Correction] = OrderedDict()

    def __len__(self) -> int:
        return len(self._corrections)

    def predict(self, task: TaskRecord) -> None:
        """Write down what the task is likely to take."""
        spec = task.spec
        assert spec is not None
        cost_s, peak_bytes = _prior(task, spec)
        if spec.estimate is not None:
            task.output_bytes = spec.estimate.output_bytes
        task.estimated_s = cost_s
        task.place_s = task.arrived_s + overtaking_limit_s(cost_s)
        if self._corrections:
            correction = self._corrections.get(_kind_of(task, spec))
            if correction is not None:
                task.cost_factor = correction.steady_time
                task.place_s = correction.steady_time.place_s(task.arrived_s, cost_s)
                cost_s *= correction.time
                peak_bytes = _corrected_peak(peak_bytes, correction)
        task.cost_s = cost_s if cost_s < _MAX_COST_S else _MAX_COST_S  # noqa: FURB136 (min() takes longer)
        task.peak_bytes = peak_bytes

    def fill_in_memory(self, task: TaskRecord) -> bool:
        """Write down anew what memory the task is likely to take, if anything was learned of its kind; whether it was."""
        spec = task.spec
        assert spec is not None
        correction = self._corrections.get(_kind_of(task, spec))
        if correction is None:
            return False
        task.peak_bytes = _corrected_peak(_prior(task, spec)[1], correction)
        return True

    def predict_by_length(self, task: TaskRecord) -> None:
        """Write down what is assumed of a task of which nothing is known but the length of its source."""
        task.cost_s, task.peak_bytes = _guess(task.nbytes)

    def has_observed(self, task: TaskRecord) -> bool:
        """Whether tasks of its kind have been done, and not only once."""
        assert task.spec is not None
        correction = self._corrections.get(_kind_of(task, task.spec))
        return correction is not None and correction.tasks >= _MIN_SAMPLES

    def observe(
        self, task: TaskRecord, answer: Done | Failed, seconds: float, *, first: bool = False, clock_s: float = 0.0
    ) -> None:
        """Correct the estimates of the task's kind by what the task took: a worker was busy with it for `seconds`.

        What the worker says is believed within limits. A worker's first task says nothing of time, because plugins were loaded
        in it. A task that failed says nothing: where a header lies, everything it led to is wrong. With one exception: a task
        without an estimate that ran into its limit shows that our own guess is too low, and nothing else could show it.
        `clock_s` is the time on the work clock.
        """
        if seconds < _NEGLIGIBLE_S and task.nbytes < _NEGLIGIBLE_NBYTES:
            return
        spec = task.spec
        assert spec is not None
        at_limit = isinstance(answer, Failed) and answer.code == "memory_limit" and spec.estimate is None
        if isinstance(answer, Failed) and not at_limit:
            return
        said_s, said_bytes = _prior(task, spec)
        if first and not at_limit and answer.peak_bytes <= 0:
            return
        correction = self._touch(_kind_of(task, spec))
        if at_limit:
            correction.memory = _bounded(correction.memory * _FACTOR_AFTER_LIMIT)
            _note_factor(correction)
            return
        if not first:
            self._observe_time(correction, task, _busy_s(answer, seconds), said_s, clock_s)
        if answer.peak_bytes > 0:
            self.memory_ratios.record(min(answer.peak_bytes / max(task.peak_bytes, 1), _MAX_RATIO))
            _follow_peak(correction, _bounded((answer.peak_bytes + _NOISE_BYTES) / (said_bytes + _NOISE_BYTES)))
            _note_factor(correction)

    def _observe_time(self, correction: _Correction, task: TaskRecord, busy_s: float, said_s: float, clock_s: float) -> None:
        assert task.spec is not None
        self.time_ratios.record(busy_s / max(task.cost_s, _MIN_S))
        factor = busy_s / said_s
        factor = factor if task.spec.estimate is None else _bounded(factor)
        _follow(correction, factor)
        correction.steady_time.observe(factor, clock_s)

    def _touch(self, kind: _Kind) -> _Correction:
        correction = self._corrections.pop(kind, None) or _Correction()
        self._corrections[kind] = correction
        if len(self._corrections) > _CAPACITY:
            self._corrections.popitem(last=False)
        return correction


def _prior(task: TaskRecord, spec: TaskSpec) -> tuple[float, int]:
    """Seconds and peak bytes without any correction."""
    estimate = spec.estimate
    if estimate is None:
        return _guess(task.nbytes)
    return max(estimate.work_s, _MIN_S), max(estimate.peak_bytes, 1)


def _corrected_peak(said_bytes: int, correction: _Correction) -> int:
    factor = correction.memory_factor
    return said_bytes if factor == 1.0 else max(int((said_bytes + _NOISE_BYTES) * factor) - _NOISE_BYTES, 0)


def _guess(nbytes: int) -> tuple[float, int]:
    return _GUESS_S + nbytes * _GUESS_S_PER_BYTE, DEFAULT_PEAK_BYTES + nbytes * DEFAULT_PEAK_BYTES_PER_BYTE


def _busy_s(answer: Done | Failed, seconds: float) -> float:
    """The time that counts: CPU time where the task computed, because neighbours do not change that; else elapsed time."""
    cpu_s = answer.cpu_ns / 1e9
    return cpu_s if seconds / 2 < cpu_s < seconds else seconds


def _follow(correction: _Correction, factor: float) -> None:
    correction.tasks += 1
    correction.time = factor if correction.tasks == 1 else correction.time + _WEIGHT_OF_NEW * (factor - correction.time)


def _follow_peak(correction: _Correction, factor: float) -> None:
    correction.peaks += 1
    error = factor - correction.memory
    if correction.peaks == 1:
        correction.memory = factor
        return
    correction.memory += _WEIGHT_OF_NEW * error
    correction.distance += _WEIGHT_OF_NEW * (abs(error) - correction.distance)


def _note_factor(correction: _Correction) -> None:
    correction.memory_factor = _bounded(correction.memory + _MARGIN * correction.distance)


def _bounded(factor: float) -> float:
    return min(max(factor, _MIN_FACTOR), _MAX_FACTOR)


def _kind_of(task: TaskRecord, spec: TaskSpec) -> _Kind:
    look = task.nbytes.bit_length() if spec.estimate is None else spec.media_type
    return look, *[(stage.plugin, _head_of(stage.operations)) for stage in spec.stages]


def _head_of(operations: msgspec.Raw) -> bytes:
    whole = len(operations) <= _SIZE_CLASS_NBYTES
    return bytes(operations) if whole else bytes(memoryview(operations)[:_SIZE_CLASS_NBYTES])
