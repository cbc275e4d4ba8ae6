"""A plugin whose processor is broken after an error, and says so or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from offloop import Encoded
from offloop.errors import TaskFailed
from offloop.operation import Operation, Plugin
from offloop.processor import Payload, Task, WorkerContext

__all__ = ["MoodyPlugin", "Try"]


class Try(Operation, frozen=True):
    breaks: Literal["", "silently", "says so", "retires"] = ""


class MoodyPlugin(Plugin):
    name = "moody"
    operations = (Try,)
    processor = "moody_plugin:MoodyProcessor"


class MoodyProcessor:
    _broken = False

    def open(self, worker: WorkerContext) -> None:
        self._worker = worker

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        (operation,) = operations
        assert isinstance(operation, Try)
        if self._broken:
            raise RuntimeError("broken since the first failure")
        if not operation.breaks:
            return Encoded(b"fine")
        self._broken = True
        if operation.breaks == "says so":
            raise TaskFailed("broken", "as ordered", recycle=True)
        if operation.breaks == "retires":
            self._worker.retire()
            return Encoded(b"the last one")
        raise RuntimeError("native failure")
