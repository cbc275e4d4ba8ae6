"""Imports, checks and registers the plugins of one pool.

A broken plugin is refused with its name, its distribution and the reason. If the pool requested it by name, that raises; else
the pool works without it.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from importlib import import_module
from itertools import groupby
from typing import Any, cast

import msgspec

from ..errors import InvalidTask, OffloopError, PluginError
from ..operation import DEFAULT_GROUP, SMALL_TASKS_GROUP, Header, Operation, Plugin, tag_of
from ..sandbox import Needs
from ..wire.messages import PluginSource, Stage
from .attachments import AttachmentNumbers
from .containment import reraise_interrupt, text_of
from .discovery import Candidate, installed_plugins
from .estimator import Estimator
from .plugin_settings import find_state_objection, source_of
from .processor_reference import find_missing_module

__all__ = ["Registered", "Registry", "error_of_single_operation"]

_REFERENCE = re.compile(r"[\w.]+:[\w.]+")

_MAX_OPERATIONS_NBYTES = 1024 * 1024  # maximum encoding of one stage's operations in bytes; 1/16 of the maximum frame

_log = logging.getLogger("offloop.plugins")


class Registered(msgspec.Struct, frozen=True):
    """A plugin that passed the checks."""

    candidate: Candidate  # where it was found
    plugin: Plugin
    source: PluginSource  # how a worker loads it


class Registry:
    """The plugins of a pool, and the errors of refused plugins."""

    def __init__(
        self,
        requested: Sequence[str | Plugin | type[Plugin]] | None = None,
        configured: Mapping[str, Plugin] | None = None,
    ) -> None:
        """Import and check plugins.

        Args:
            requested: names of installed plugins, references as "module:attribute", or plugins themselves (module-level
                objects, because workers must be able to import them). None: all installed plugins.
            configured: instances to use for installed plugins, by name.

        Raises:
            PluginError: a requested plugin is missing or was refused.
        """
        self.plugins: dict[str, Registered] = {}
        self.refused: list[PluginError] = []
        self._by_operation: dict[type[Operation], str] = {}
        self._estimating: set[str] = set()  # names of the plugins that override `estimate`
        self.attachments = AttachmentNumbers()
        for item in installed_plugins() if requested is None else requested:
            candidate = item if isinstance(item, Candidate) else _candidate_for(item)
            try:
                self._register(candidate, item if isinstance(item, Plugin) else (configured or {}).get(candidate.name))
            except PluginError as error:
                if requested is not None:
                    raise
                self.refused.append(error)
                _log.warning("%s", error)

    @property
    def sources(self) -> dict[str, PluginSource]:
        """Plugin name -> source from which a worker loads the plugin."""
        return {name: registered.source for name, registered in self.plugins.items()}

    @property
    def references(self) -> dict[str, str]:
        """Plugin name -> "module:attribute" of the plugin."""
        return {name: registered.candidate.reference for name, registered in self.plugins.items()}

    def stages(self, pipeline: Iterable[Operation]) -> list[Stage]:
        """Group a pipeline's operations by plugin and encode them.

        Raises:
            InvalidTask: the pipeline is empty, contains an object that is not an operation of the pool's plugins, or a plugin's
                `check` refuses it.
            PluginError: a plugin's `check` raised another error.
        """
        if isinstance(pipeline, Operation):
            raise error_of_single_operation(pipeline)
        operations = list(pipeline)
        if not operations:
            raise InvalidTask("the pipeline is empty; give at least one operation")
        if len(operations) == 1:
            return [self._stage(self._plugin_of(operations[0]), operations)]
        return [self._stage(name, list(group)) for name, group in groupby(operations, self._plugin_of)]

    def find_estimator(self, operations: Sequence[Operation]) -> Estimator | None:
        """Returns the estimator of a pipeline that `stages` accepted; None if none of its plugins overrides `estimate`."""
        if not self._estimating:
            return None
        names = [self._by_operation[type(operation)] for operation in operations]
        if self._estimating.isdisjoint(names):
            return None
        groups = groupby(operations, lambda operation: self._by_operation[type(operation)])
        return Estimator([(self.plugins[name].plugin, tuple(group)) for name, group in groups])

    def find_kind(self, operations: Sequence[Operation]) -> tuple[tuple[str, str], ...] | None:
        """Returns what the cost of a pipeline depends on; None if that is all of it, because no operation holds data."""
        kinds = [operation.cost_kind() for operation in operations]
        if not any(kinds):
            return None
        return tuple(
            (self._by_operation[type(operation)], repr(operation) if kind is None else kind)
            for operation, kind in zip(operations, kinds, strict=True)
        )

    def probe(self, data: memoryview) -> Header | None:
        """Returns the header from the first plugin that recognizes a source's first bytes; None if no plugin does.

        Raises:
            PluginError: a plugin's `probe` raised, which it must not.
        """
        for name, registered in self.plugins.items():
            try:
                header = registered.plugin.probe(data[: registered.plugin.probe_nbytes])
            except BaseException as error:
                reraise_interrupt(error)
                raise PluginError(name, f"its probe raised {text_of(error)}") from error
            if header is not None:
                return header
        return None

    def _stage(self, name: str, operations: list[Operation]) -> Stage:
        self._check(name, operations)
        return self.encoded_stage(name, operations)

    def encoded_stage(self, name: str, operations: list[Operation]) -> Stage:
        """Encode operations of one plugin that its `check` has accepted.

        Raises:
            InvalidTask: they cannot be sent, or are too large.
        """
        try:
            encoded = self.attachments.encoder.encode(operations)
        except (UnicodeEncodeError, TypeError, OverflowError) as error:
            raise InvalidTask(f"the operations of {name!r} cannot be sent to a worker: {error}") from None
        if len(encoded) > _MAX_OPERATIONS_NBYTES:
            limit = f"{_MAX_OPERATIONS_NBYTES:,}"
            raise InvalidTask(f"the operations of {name!r} take {len(encoded):,} bytes, and {limit} is the limit; use a source")
        return Stage(name, msgspec.Raw(encoded))

    def _check(self, name: str, operations: list[Operation]) -> None:
        try:
            self.plugins[name].plugin.check(operations)
        except OffloopError:
            raise
        except BaseException as error:
            reraise_interrupt(error)
            raise PluginError(name, f"its check raised {text_of(error)}") from error

    @property
    def probe_nbytes(self) -> int:
        """Maximum number of a source's first bytes that a plugin's `probe` gets."""
        return max((registered.plugin.probe_nbytes for registered in self.plugins.values()), default=0)

    def _plugin_of(self, operation: Operation) -> str:
        name = self._by_operation.get(type(operation))
        if name is not None:
            return name
        if not isinstance(operation, Operation):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
            raise InvalidTask(f"{operation!r} is not an operation; use instances such as Resize(800)")
        refusals = "".join(f"; refused: {error}" for error in self.refused)
        known = ", ".join(self.plugins) or "none"
        raise InvalidTask(f"{type(operation).__name__} belongs to no plugin of this pool (it has: {known}{refusals})")

    def _register(self, candidate: Candidate, instance: Plugin | None) -> None:
        try:
            plugin = _load(candidate.reference) if instance is None else instance
        except BaseException as error:
            reraise_interrupt(error)
            reason = f"cannot be imported: {text_of(error)}"
            raise PluginError(candidate.name, reason, distribution=candidate.distribution) from error
        reason = find_state_objection(plugin) if instance is not None else None
        reason = reason or _objection(plugin, candidate) or self._clash(plugin)
        if reason is not None:
            raise PluginError(candidate.name, reason, distribution=candidate.distribution)
        try:
            source = source_of(candidate.reference, getattr(plugin, "settings", None))
        except ValueError as error:
            raise PluginError(candidate.name, str(error), distribution=candidate.distribution) from None
        self.plugins[plugin.name] = Registered(msgspec.structs.replace(candidate, name=plugin.name), plugin, source)
        kind = cast("type[Plugin]", type(plugin))
        if any(getattr(kind, name) is not getattr(Plugin, name) for name in ("estimate", "estimate_sources", "refuse")):
            self._estimating.add(plugin.name)
        self._by_operation |= dict.fromkeys(plugin.operations, plugin.name)

    def _clash(self, plugin: Plugin) -> str | None:
        other = self.plugins.get(plugin.name)
        if other is not None:
            return f"its name is taken by {other.candidate.reference} ({other.candidate.distribution or 'not installed'})"
        duplicates = [kind for kind in plugin.operations if kind in self._by_operation]
        if duplicates:
            return f"its {duplicates[0].__name__} is an operation of {self._by_operation[duplicates[0]]!r} already"
        return None


def error_of_single_operation(operation: Operation) -> InvalidTask:
    """The error for an operation that is given instead of a pipeline."""
    return InvalidTask(f"the pipeline is a single {type(operation).__name__}; write it as a list: [{operation!r}]")


def _candidate_for(requested: str | Plugin | type[Plugin]) -> Candidate:
    if not isinstance(requested, str):
        kind = requested if isinstance(requested, type) else type(requested)
        if kind.__module__ == "__main__" or "<locals>" in kind.__qualname__:
            reason = f"{kind.__qualname__} is defined in {kind.__module__}, where no worker can import it; put it into a module"
            raise PluginError(kind.__name__, reason)
        return Candidate(str(getattr(requested, "name", kind.__name__)), f"{kind.__module__}:{kind.__qualname__}", None)
    if ":" in requested:
        return Candidate(requested, requested, None)
    for candidate in installed_plugins():
        if candidate.name == requested:
            return candidate
    names = ", ".join(candidate.name for candidate in installed_plugins()) or "none"
    raise PluginError(requested, f"no such plugin is installed (there are: {names})")


def _load(reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    found = _import_object(module, attribute)
    return found() if isinstance(found, type) else found


def _import_object(module: str, attribute: str) -> Any:
    """Returns the object of a module. If another thread still imports the module, but the object exists already, this does not
    wait, because that thread may wait for this pool."""
    path = attribute.split(".")
    try:
        return reduce(getattr, path, sys.modules[module])
    except (KeyError, AttributeError):
        return reduce(getattr, path, import_module(module))


def _objection(plugin: Any, candidate: Candidate) -> str | None:
    """Returns the reason why a plugin cannot be registered; None if it can."""
    name, processor = getattr(plugin, "name", None), getattr(plugin, "processor", None)
    if not isinstance(name, str) or not name.isidentifier():
        return f"its name must be an identifier, not {name!r}"
    if candidate.name not in (name, candidate.reference):
        return f"it calls itself {name!r}"
    if not isinstance(processor, str) or not _REFERENCE.fullmatch(processor):
        return f"processor must be text as in 'module:Class', not {processor!r}"
    return (
        _objection_to_operations(getattr(plugin, "operations", None))
        or _objection_to_group(getattr(plugin, "group", None), getattr(plugin, "companions", ()))
        or _objection_to_needs(getattr(plugin, "needs", None))
        or _objection_to_method(plugin, "probe", memoryview(b""))
        or _objection_to_method(plugin, "check", [])
        or _objection_to_method(plugin, "estimate", None, [], 0)
        or _objection_to_processor(processor)
    )


def _objection_to_processor(processor: str) -> str | None:
    missing = find_missing_module(processor.partition(":")[0])
    return missing and f"its processor {processor!r} cannot be imported: there is no module {missing!r}"


def _objection_to_operations(operations: Any) -> str | None:
    if not isinstance(operations, tuple) or not operations:
        return f"operations must be a tuple of Operation subclasses, not {operations!r}"
    kinds = cast("tuple[Any, ...]", operations)
    invalid = [kind for kind in kinds if not _is_operation(kind)]
    if invalid:
        return f"operations must be a tuple of Operation subclasses, and {invalid[0]!r} is none"
    tags = [tag_of(kind) for kind in kinds]
    return f"two of its operations have the same name: {sorted(tags)}" if len(set(tags)) < len(tags) else None


def _objection_to_group(group: Any, companions: Any) -> str | None:
    if group is not None and not (isinstance(group, str) and group.isidentifier()):
        return f"its group must be an identifier or None, not {group!r}"
    if group in (DEFAULT_GROUP, SMALL_TASKS_GROUP):
        return f"its group must not be {group!r}, which every pool has"
    if not isinstance(companions, tuple) or not all(isinstance(name, str) for name in cast("tuple[Any, ...]", companions)):
        return f"its companions must be a tuple of names of plugins, not {companions!r}"
    return f"it has companions {companions!r} and no group" if companions and group is None else None


def _objection_to_needs(needs: Any) -> str | None:
    if not isinstance(needs, Needs):
        return f"its needs must be an offloop.Needs, not {needs!r}"
    paths: list[Any] = [*needs.read, *needs.write]
    wrong = [path for path in paths if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path]
    return f"its needs must name absolute paths as text, not {wrong[0]!r}" if wrong else None


def _objection_to_method(plugin: Any, name: str, *arguments: object) -> str | None:
    method = getattr(plugin, name, None)
    if not callable(method):
        return f"it has no method {name}"
    try:
        signature = inspect.signature(method)
    except (ValueError, TypeError):
        return f"its {name} is {method!r}, whose signature cannot be read"
    try:
        signature.bind(*arguments)
    except TypeError:
        count = "one argument" if len(arguments) == 1 else f"{len(arguments)} arguments"
        return f"{name}{signature} cannot be called with {count}"
    return None


def _is_operation(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Operation) and kind is not Operation
