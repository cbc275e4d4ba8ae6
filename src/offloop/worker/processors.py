"""Loads the processors of all plugins in a worker, before its first task. A processor is opened once and then kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from importlib import import_module
from typing import Any

import msgspec

from ..errors import PluginError
from ..operation import Operation, decoder_for
from ..processor import Payload, Processor, Task
from ..wire.messages import PluginSource, Stage
from ..wire.status import LOADING_ID, write_stage
from ..wire.text import printable
from .failures import text_of

__all__ = ["ProcessorCache", "import_object"]

_MAX_REASON_LENGTH = 200  # characters of a reason in `Ready`
_MAX_FAILURES = 32  # plugins that `Ready` names: with so many reasons it fits into a frame


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
        self._errors: dict[str, tuple[str, BaseException]] = {}  # of the plugins that could not be loaded

    @property
    def packages(self) -> set[str]:
        """Packages of the processors: the whole distribution of a plugin, as far as a name tells."""
        modules = {type(loaded.processor).__module__ for loaded in self._loaded.values()}
        return {module.rpartition(".")[0] if module.startswith("offloop.") else module.partition(".")[0] for module in modules}

    def run_stage(self, stage: Stage, payload: Payload, task: Task) -> Payload | None:
        """Run one plugin's operations on a payload. Returns what the processor returned.

        Raises:
            PluginError: the plugin could not be loaded.
            Exception: any exception of the processor.
        """
        if stage.plugin in self._errors:
            reason, cause = self._errors[stage.plugin]
            raise PluginError(stage.plugin, reason) from cause
        if stage.plugin not in self._loaded:
            raise PluginError(stage.plugin, "this worker was started without it, because its load has ended workers")
        loaded = self._loaded[stage.plugin]
        return loaded.processor.run(payload, loaded.operations.decode(stage.operations), task)

    def can_share(self, plugin: str) -> bool:
        """Whether the plugin's processor shares work between pipelines on the same source."""
        return plugin in self._loaded and hasattr(self._loaded[plugin].processor, "run_many")

    def run_many(self, stages: Sequence[Stage], payload: Payload, task: Task) -> Iterable[tuple[int, Payload | BaseException]]:
        """Run several stages of one plugin on the same payload. Yields the result or the failure of each, as it is ready."""
        loaded = self._loaded[stages[0].plugin]
        processor: Any = loaded.processor
        yield from processor.run_many(payload, [loaded.operations.decode(stage.operations) for stage in stages], task)

    def load_all(self, status_page: memoryview) -> dict[str, str]:
        """Load every plugin. Returns the reasons by name of those that failed; their stages raise them again.

        The status page says which plugin is being loaded, because a load can end the process.
        """
        for index, name in enumerate(self._sources):
            write_stage(status_page, LOADING_ID, index)
            try:
                self._load(name)
            except BaseException as error:  # includes SystemExit, because a plugin must not end the worker by raising
                self._errors[name] = f"its processor cannot be loaded: {text_of(error)}", error
        write_stage(status_page, 0, 0)
        failed = list(self._errors.items())[:_MAX_FAILURES]
        return {name: printable(reason, _MAX_REASON_LENGTH) for name, (reason, _) in failed}

    def _load(self, name: str) -> None:
        source = self._sources[name]
        plugin = import_object(source.reference)
        decoder = decoder_for(plugin.operations)
        processor: Processor = import_object(plugin.processor)()
        processor.open(_PluginContext(self.worker, _settings_of(source)))
        self._loaded[name] = _Loaded(processor, decoder)


def _settings_of(source: PluginSource) -> Any:
    if source.settings_type is None or source.settings is None:
        return None
    return msgspec.msgpack.decode(source.settings, type=import_object(source.settings_type))


def import_object(reference: str) -> Any:
    """Import and return the object that "module:attribute" names."""
    module, _, attribute = reference.partition(":")
    return reduce(getattr, attribute.split("."), import_module(module))
