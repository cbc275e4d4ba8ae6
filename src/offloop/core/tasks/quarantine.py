"""Quarantine: recognises content that kills workers by its digest, and refuses it for a while after too many strikes.

The pool cannot distinguish an image that crashes a decoder from a decoder that crashes at random, but it can count. A death is
a strike against the sources and the pipeline together. A new task's sources are hashed only if its pipeline and their lengths
are those of a suspect.

The number of suspects is bounded. A suspect is forgotten after the cool-down, and when the same content was processed without
harm.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from ...errors import TaskQuarantined
from ..model.task import TaskSpec

__all__ = ["Quarantine"]

_CAPACITY = 1024  # maximum number of suspects; the suspect with the oldest last strike is forgotten first


class _Fingerprint(NamedTuple):
    """Properties of a task that are known without reading its sources."""

    stages: tuple[tuple[str, bytes], ...]
    sources: tuple[tuple[int, tuple[int, ...] | None], ...]  # length in bytes, and shape of samples


class _Record(NamedTuple):
    strikes: int
    until: float  # time at which the suspect is forgotten


class Quarantine:
    """The suspects of a pool. Content with `after` strikes within the cool-down is refused; None: no content is refused."""

    def __init__(self, after: int | None, cool_down_s: float) -> None:
        self._after = after
        self._cool_down_s = cool_down_s
        self.records: OrderedDict[tuple[_Fingerprint, bytes], _Record] = OrderedDict()
        """The suspects, for reading only, by fingerprint and digest; oldest last strike first."""
        self._fingerprints: dict[_Fingerprint, int] = {}  # number of suspects with each fingerprint

    def __len__(self) -> int:
        return len(self.records)

    @property
    def enabled(self) -> bool:
        """Whether strikes are counted."""
        return self._after is not None

    def suspects(self, spec: TaskSpec, now: float) -> bool:
        """Whether a task has the fingerprint of a suspect, so that its sources have to be hashed."""
        self._expire(now)
        return _fingerprint_of(spec) in self._fingerprints

    def strike(self, spec: TaskSpec, digest: bytes, now: float) -> None:
        """Count the death of a worker against this content."""
        self._expire(now)
        key = (_fingerprint_of(spec), digest)
        record = self.records.get(key)
        self._forget(key)
        self.records[key] = _Record(1 if record is None else record.strikes + 1, now + self._cool_down_s)
        self._fingerprints[key[0]] = self._fingerprints.get(key[0], 0) + 1
        if len(self.records) > _CAPACITY:
            self._forget(next(iter(self.records)))

    def refusal(self, spec: TaskSpec, digest: bytes, now: float) -> TaskQuarantined | None:
        """Return the error for a task whose content has killed too many workers, or None."""
        self._expire(now)
        record = self.records.get((_fingerprint_of(spec), digest))
        if record is None or self._after is None or record.strikes < self._after:
            return None
        return TaskQuarantined(record.strikes, record.until - now)

    def clear(self, spec: TaskSpec, digest: bytes) -> None:
        """Forget this content, because it was processed without harm."""
        self._forget((_fingerprint_of(spec), digest))

    def _expire(self, now: float) -> None:
        """Forget the suspects whose cool-down is over: the first ones, because each strike moves its suspect to the end."""
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
    stages = tuple((stage.plugin, bytes(stage.operations)) for stage in spec.stages)
    sources = tuple((source.block.nbytes if source.block else 0, getattr(source, "shape", None)) for source in spec.sources)
    return _Fingerprint(stages, sources)
