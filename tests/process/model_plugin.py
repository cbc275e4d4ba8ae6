"""A plugin with a worker group of its own, and one whose load ends the workers of that group."""

from __future__ import annotations

import os
from collections.abc import Sequence

from load_plugins import ExitsPlugin

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Classify(Operation, frozen=True):
    """Return the source, and in the info the worker's pid, its niceness and the variable MARK."""


class Crash(Operation, frozen=True):
    """End the process."""


class ModelPlugin(Plugin):
    name = "model"
    operations = (Classify, Crash)
    processor = "model_plugin:ModelProcessor"
    group = "models"
    companions = ("good", "not_installed")


class ExitsInGroupPlugin(ExitsPlugin):
    """Its load ends the worker."""

    group = "models"


class ModelProcessor:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        if isinstance(operations[-1], Crash):
            os._exit(5)
        info = {"pid": os.getpid(), "nice": os.getpriority(os.PRIO_PROCESS, 0), "mark": os.environ.get("MARK", "")}
        return Encoded(payload.data, info)
