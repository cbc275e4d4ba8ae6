"""A plugin that returns the environment of its worker."""

import os
from collections.abc import Sequence

from offloop import Encoded, Operation, Payload, Plugin, Task, WorkerContext


class Environment(Operation, frozen=True):
    """Return all variables in the info."""


class EnvironmentPlugin(Plugin):
    name = "environment"
    operations = (Environment,)
    processor = "environment_plugin:EnvironmentProcessor"


class EnvironmentProcessor:
    def open(self, worker: WorkerContext) -> None:
        pass

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        return Encoded(b"", {"variables": dict(os.environ)})
