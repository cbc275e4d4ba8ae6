"""Content that kills workers: known again by its digest, and refused for a while once it has killed too many.

The pool cannot tell a picture that breaks a decoder from a decoder that breaks once in a while, but it can count. A death is a
strike against source and pipeline together. What nobody was killed by is never hashed: a new task is only looked at when its
pipeline and the length of its source are those of a suspect.

What is remembered is bounded, and forgotten: after the cool-down, and when the same content has done no harm.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from ...errors import TaskQuarantined
from ..model.task import TaskSpec

__all__ = ["Quarantine"]

_CAPACITY = 1024  # suspects that are remembered; the one that did least recently any harm is forgotten


class _Fingerprint(NamedTuple):
    """What can be seen of a task without reading its source."""

    stages: tuple[tuple[str, bytes], ...]
    nbytes: int
    shape: tuple[int, ...] | None


class _Record(NamedTuple):
    strikes: int
    until: float  # forgotten from then on


class Quarantine:
    """The suspects of a pool. `after` strikes within the cool-down, and the content is refused; None: nothing is."""

    def __init__(self, after: int | None, cool_down_s: float) -> None:
        self._after = after
        self._cool_down_s = cool_down_s
        self.records: OrderedDict[tuple[_Fingerprint, bytes], _Record] = OrderedDict()
        """The suspects; only to be looked at."""
        self._fingerprints: dict[_Fingerprint, int] = {}  # how many suspects look like that

    def __len__(self) -> int:
        return len(self.records)

    @property
    def enabled(self) -> bool:
        """Whether strikes are counted at all."""
        return self._after is not None

    def suspects(self, spec: TaskSpec, now: float) -> bool:
        """Whether a task looks like one that killed a worker, so that its source should be identified."""
        self._expire(now)
        return _fingerprint_of(spec) in self._fingerprints

    def strike(self, spec: TaskSpec, digest: bytes, now: float) -> None:
        """A worker died of this content."""
        self._expire(now)
        key = (_fingerprint_of(spec), digest)
        record = self.records.get(key)
        self._forget(key)
        self.records[key] = _Record(1 if record is None else record.strikes + 1, now + self._cool_down_s)
        self._fingerprints[key[0]] = self._fingerprints.get(key[0], 0) + 1
        if len(self.records) > _CAPACITY:
            self._forget(next(iter(self.records)))

    def refusal(self, spec: TaskSpec, digest: bytes, now: float) -> TaskQuarantined | None:
        """The error for a task that will not be run, if its content has killed too many workers."""
        self._expire(now)
        record = self.records.get((_fingerprint_of(spec), digest))
        if record is None or self._after is None or record.strikes < self._after:
            return None
        return TaskQuarantined(record.strikes, record.until - now)

    def clear(self, spec: TaskSpec, digest: bytes) -> None:
        """This content has been worked on and did no harm."""
        self._forget((_fingerprint_of(spec), digest))

    def _expire(self, now: float) -> None:
        """Forget those whose cool-down is over: the first ones, as each strike puts its suspect last."""
        while self.records:
            key, record = next(iter(self.records.items()))
            if record.until > now:
                break
            self._forget(key)

    def _forget(self, key: tuple[_Fingerprint, bytes]) -> None:
        if self.records.pop(key, None) is not None:
            self._fingerprints[key[0]] -= 1
            if not self._fingerprints[key[0]]:
                del self._fingerprints[key[0]]


def _fingerprint_of(spec: TaskSpec) -> _Fingerprint:
    source = spec.source
    nbytes = 0 if source.block is None else source.block.nbytes
    stages = tuple((stage.plugin, bytes(stage.operations)) for stage in spec.stages)
    return _Fingerprint(stages, nbytes, getattr(source, "shape", None))
