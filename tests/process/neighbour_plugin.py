"""A hostile plugin in the worker group "onnx": what a taken-over processor reaches there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hostile_plugin import Escape, HostilePlugin, HostileProcessor

from offloop import Encoded, Operation, Payload, Task


class ReadFile(Operation, frozen=True):
    """Return the first bytes of a file, or the name of the error."""

    path: str


class NeighbourPlugin(HostilePlugin):
    name = "neighbour"
    operations = (Escape, ReadFile)
    processor = "neighbour_plugin:NeighbourProcessor"
    group = "onnx"


class NeighbourProcessor(HostileProcessor):
    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        operation = operations[0]
        if not isinstance(operation, ReadFile):
            return super().run(payload, operations, task)
        try:
            return Encoded(Path(operation.path).read_bytes()[:100])
        except OSError as error:
            return Encoded(type(error).__name__.encode())
