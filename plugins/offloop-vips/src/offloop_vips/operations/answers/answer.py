"""Base class of the last steps that make values."""

from __future__ import annotations

from typing import Any

from offloop.operation import Operation

from ...picture import Picture
from ..step import Step

__all__ = ["Answer"]


class Answer(Operation, frozen=True):
    """Last step of a pipeline, which makes values. They are in `result.info`, and as JSON in `result.data`."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """Steps that are applied to the picture before `answer`. Those that reduce it let a decoder skip detail."""
        return ()

    def answer(self, picture: Picture) -> dict[str, Any]:
        """Returns the values, of JSON types, by their names in `result.info`."""
        raise NotImplementedError
