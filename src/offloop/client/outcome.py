"""Outcome of one task of a batch, or of one pipeline of `run_many`."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from .results import Result

__all__ = ["Outcome"]

SourceT = TypeVar("SourceT")


class Outcome(msgspec.Struct, Generic[SourceT], frozen=True, eq=False):
    """How one task of a batch, or one of several pipelines on a source, ended: with a result, or an error."""

    index: int
    """Number of the source in the order in which it was pulled, or of the pipeline; from 0."""

    source: SourceT
    """The source, as it was given."""

    result: Result | None = None
    """The result, or a preview of it; None: the task failed. It stays valid after the batch and the pool have ended."""

    error: Exception | None = None
    """The error, usually an `OffloopError`; None: the task succeeded."""

    name: str | None = None
    """Name of the pipeline of `run_many`; None in a batch."""

    preview: bool = False
    """Whether `result` is a preview. The outcome of the same source or pipeline follows, and may be an error."""

    def unwrap(self) -> Result:
        """Return the result, or raise the error."""
        if self.result is None:
            assert self.error is not None
            raise self.error
        return self.result
