"""How long a task is likely to run: first a guess from its size, then what tasks like it took.

Tasks are alike that have the same pipeline and sources of about the same length (within a factor of two). What is learned is
bounded: the kinds that were least recently seen are forgotten.
"""

from __future__ import annotations

from collections import OrderedDict

from .tasks import TaskSpec

__all__ = ["CostModel"]

_CAPACITY = 1024  # kinds of tasks that are remembered
_GUESS_S = 0.005  # for a task of no bytes...
_GUESS_S_PER_BYTE = 100e-9  # ...and about what decoding a JPEG and making something of it takes for each byte of the file
_WEIGHT_OF_NEW = 0.25  # of the newest of several: four tasks change the mind, one does not
_NOT_WORTH_LEARNING_S = 0.001  # whatever is done in less is cheap, and learning would be a part of its cost

_Kind = tuple[int, tuple[tuple[str, bytes], ...]]


class CostModel:
    """Seconds of a worker's time, by kind of task."""

    def __init__(self) -> None:
        self._learned_s: OrderedDict[_Kind, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._learned_s)

    def estimate_s(self, spec: TaskSpec) -> float:
        """How long the task is likely to run."""
        learned = self._learned_s.get(_kind_of(spec)) if self._learned_s else None
        return _GUESS_S + _nbytes(spec) * _GUESS_S_PER_BYTE if learned is None else learned

    def learn(self, spec: TaskSpec, seconds: float) -> None:
        """A task was carried out, and kept its worker busy for so long."""
        if seconds < _NOT_WORTH_LEARNING_S and _nbytes(spec) * _GUESS_S_PER_BYTE < _GUESS_S:
            return
        kind = _kind_of(spec)
        before = self._learned_s.pop(kind, seconds)
        self._learned_s[kind] = before + _WEIGHT_OF_NEW * (seconds - before)
        if len(self._learned_s) > _CAPACITY:
            self._learned_s.popitem(last=False)


def _nbytes(spec: TaskSpec) -> int:
    return 0 if spec.source.block is None else spec.source.block.nbytes


def _kind_of(spec: TaskSpec) -> _Kind:
    return _nbytes(spec).bit_length(), tuple((stage.plugin, bytes(stage.operations)) for stage in spec.stages)
