"""Plugins whose processors keep to their limits, or do not, for the test of the conformance kit."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, TaskFailed, WorkerContext


class Step(Operation, frozen=True):
    """Return the source."""


class Steady:
    """Looks often whether it should stop, and takes 30 MB in a way that fails with an exception."""

    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        self.take(30_000_000)
        for percent in range(0, 100, 5):
            task.progress(percent / 100)
            task.checkpoint()
            time.sleep(0.01)
        return Encoded(bytes(payload.data))

    def take(self, nbytes: int) -> None:
        bytearray(nbytes)


class EndsItsProcess(Steady):
    def take(self, nbytes: int) -> None:
        try:
            bytearray(nbytes)
        except MemoryError:
            os._exit(9)


class StaysBroken(Steady):
    is_broken = False

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        if self.is_broken:
            raise TaskFailed("broken", "an earlier task was stopped")
        self.is_broken = True
        result = super().run(payload, operations, task)
        self.is_broken = False
        return result


class SteadyPlugin(Plugin):
    name = "limits"
    operations = (Step,)
    processor = "limits_plugin:Steady"


class EndsItsProcessPlugin(Plugin):
    name = "limits"
    operations = (Step,)
    processor = "limits_plugin:EndsItsProcess"


class StaysBrokenPlugin(Plugin):
    name = "limits"
    operations = (Step,)
    processor = "limits_plugin:StaysBroken"
