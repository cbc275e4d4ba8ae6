"""Numbers the attachments of a task's operations, in place of which a worker gets their indices.

An operation keeps its attachment, because it is frozen and may be part of many pipelines. The encoder of a pipeline calls
`number` for each attachment. A source that occurs twice has one index, so that it is staged once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..operation import Attachment, Operation, decoder_for

__all__ = ["AttachmentNumbers"]


class AttachmentNumbers:
    """The sources of the attachments that were encoded since the last `take`, in the order of their indices."""

    def __init__(self) -> None:
        self.encoder = msgspec.msgpack.Encoder(enc_hook=self._number)
        self.sources: list[Any] = []
        """Sources of the attachments, for reading only."""

    def take(self) -> tuple[Any, ...]:
        """Return the sources, and begin with the next task."""
        sources, self.sources = tuple(self.sources), []
        return sources

    def numbered(self, operations: Sequence[Operation]) -> list[Operation]:
        """Return the operations as a worker gets them: with attachments that have an index and no source."""
        return [decoder_for((type(operation),)).decode(self.encoder.encode([operation]))[0] for operation in operations]

    def _number(self, value: Any) -> int:
        if not isinstance(value, Attachment):
            raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
        if value.index:
            return value.index
        for index, source in enumerate(self.sources, 1):
            if source is value.source:
                return index
        self.sources.append(value.source)
        return len(self.sources)
