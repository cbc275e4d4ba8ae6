"""The plugins in a worker: loaded on first use or ahead of it, opened once, then kept."""

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
    """The worker, as all processors in it share it."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.retiring = False  # a processor asked for a replacement

    def retire(self) -> None:
        self.retiring = True


class _PluginContext:
    """The worker, as the processor of one plugin sees it: `offloop.processor.WorkerContext`."""

    def __init__(self, worker: LoadedWorker, settings: Any) -> None:
        self.slot = worker.slot
        self.settings = settings
        self.retire = worker.retire


class ProcessorCache:
    """Carries out stages; knows which plugins there are and loads those that are asked for."""

    def __init__(self, slot: int, plugins: dict[str, PluginSource]) -> None:
        self.worker = LoadedWorker(slot)
        self._sources = plugins
        self._loaded: dict[str, _Loaded] = {}
        self.loaded: KeysView[str] = self._loaded.keys()  # their names

    def run_stage(self, stage: Stage, payload: Payload, task: Task) -> Payload:
        """Run one plugin's operations on a payload; it is loaded.

        Raises:
            PluginError: it returned what is no payload.
            Exception: whatever the processor raised.
        """
        loaded = self._loaded[stage.plugin]
        result = loaded.processor.run(payload, loaded.operations.decode(stage.operations), task)
        check_payload(stage.plugin, result)
        return result

    def preload(self, plugins: list[str]) -> None:
        """Load these ahead of a task. Whatever goes wrong will go wrong again with the task, and be told then."""
        for name in plugins:
            with suppress(BaseException):  # SystemExit too, as in a task
                if name not in self._loaded:
                    self.load(name)

    def load(self, name: str) -> None:
        """Load a plugin, and open its processor.

        Raises:
            PluginError: it could not be loaded or opened.
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
    """It makes these operations and no other type."""
    union: Any = operations[0]
    for operation in operations[1:]:
        union |= operation
    return msgspec.msgpack.Decoder(list[union])


def import_object(reference: str) -> Any:
    """The object that "module:attribute" names."""
    module, _, attribute = reference.partition(":")
    return reduce(getattr, attribute.split("."), import_module(module))
