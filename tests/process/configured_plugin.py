"""A plugin with parameters: its processor answers with the model that it was given."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from offloop import Encoded
from offloop.operation import Operation, Plugin
from offloop.processor import Payload, Task, WorkerContext

__all__ = ["INSTANCE", "Ask", "ConfiguredPlugin", "StatefulPlugin"]


class Model(msgspec.Struct, frozen=True):
    name: str
    layers: tuple[int, ...] = ()


class Ask(Operation, frozen=True):
    pass


class ConfiguredPlugin(Plugin):
    name = "configured"
    operations = (Ask,)
    processor = "configured_plugin:ModelProcessor"

    def __init__(self, model: str = "default") -> None:
        self.settings = Model(model, (1, 2))


class StatefulPlugin(ConfiguredPlugin):
    def __init__(self, model: str) -> None:
        super().__init__(model)
        self.model = model


class ModelProcessor:
    def open(self, worker: WorkerContext) -> None:
        self._settings = worker.settings

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload:
        assert isinstance(self._settings, Model)
        return Encoded(f"{self._settings.name} {self._settings.layers}".encode())


INSTANCE = ConfiguredPlugin("by reference")
