"""Loads the processors of plugins in a worker, on first use or before it. A processor is opened once and then kept."""

from __future__ import annotations

from collections.abc import KeysView
from contextlib import suppress
from functools import reduce
from importlib import import_module
from typing import Any

import msgspec

from ..errors import PluginError
from ..operation import Operation
from ..processor import Payload, Processor, Task
from ..wire.messages import PluginSource, Stage
from .result_checks import check_payload

__all__ = ["ProcessorCache", "decoder_for", "import_object"]


class _Loaded(msgspec.Struct, frozen=True):
    processor: Processor
    operations: msgspec.msgpack.Decoder[list[Operation]]


class LoadedWorker:
    """State of the worker that all its processors share."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.retiring = False  # whether a processor has requested that the worker is replaced

    def retire(self) -> None:
        self.retiring = True


class _PluginContext:
    """Implements `offloop.processor.WorkerContext` for the processor of one plugin."""

    def __init__(self, worker: LoadedWorker, settings: Any) -> None:
        self.slot = worker.slot
        self.settings = settings
        self.retire = worker.retire


class ProcessorCache:
    """Maps plugin names to opened processors, and runs stages with them."""

    def __init__(self, slot: int, plugins: dict[str, PluginSource]) -> None:
        self.worker = LoadedWorker(slot)
        self._sources = plugins
        self._loaded: dict[str, _Loaded] = {}
        self.loaded: KeysView[str] = self._loaded.keys()  # names of the loaded plugins

    def run_stage(self, stage: Stage, payload: Payload, task: Task) -> Payload:
        """Run one plugin's operations on a payload. The plugin must be loaded.

        Raises:
            PluginError: the processor returned an object that is not a payload.
            Exception: any exception of the processor.
        """
        loaded = self._loaded[stage.plugin]
        result = loaded.processor.run(payload, loaded.operations.decode(stage.operations), task)
        check_payload(stage.plugin, result)
        return result

    def preload(self, plugins: list[str]) -> None:
        """Load plugins before a task needs them. Errors are ignored, because the task's load raises them again."""
        for name in plugins:
            with suppress(BaseException):  # includes SystemExit, as in a task
                if name not in self._loaded:
                    self.load(name)

    def load(self, name: str) -> None:
        """Load a plugin and open its processor.

        Raises:
            PluginError: the processor cannot be loaded or opened.
        """
        try:
            source = self._sources[name]
            plugin = import_object(source.reference)
            decoder = decoder_for(plugin.operations)
            processor: Processor = import_object(plugin.processor)()
            processor.open(_PluginContext(self.worker, _settings_of(source)))
        except Exception as error:
            raise PluginError(name, f"its processor cannot be loaded: {type(error).__name__}: {error}") from error
        self._loaded[name] = _Loaded(processor, decoder)


def _settings_of(source: PluginSource) -> Any:
    if source.settings_type is None or source.settings is None:
        return None
    return msgspec.msgpack.decode(source.settings, type=import_object(source.settings_type))


def decoder_for(operations: tuple[type[Operation], ...]) -> msgspec.msgpack.Decoder[list[Operation]]:
    """Returns a decoder that accepts only these types of operations."""
    union: Any = operations[0]
    for operation in operations[1:]:
        union |= operation
    return msgspec.msgpack.Decoder(list[union])


def import_object(reference: str) -> Any:
    """Import and return the object that "module:attribute" names."""
    module, _, attribute = reference.partition(":")
    return reduce(getattr, attribute.split("."), import_module(module))
