"""The worker's half: finds the function, decodes its arguments, calls it and encodes its result."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from importlib import import_module
from typing import Any, cast

from ..errors import PluginError
from ..operation import Operation
from ..processor import Payload, Task, WorkerContext
from .context import Context
from .declaration import UNDECLARED, find_options
from .encoding.results import ResultCodec
from .encoding.signature import Signature
from .plugin import Call, FunctionSettings, is_in_modules
from .reference import find_function
from .resource import find_resource

__all__ = ["FunctionProcessor"]

_log = logging.getLogger("offloop.functions")


class FunctionProcessor:
    """Implements `offloop.processor.Processor` for functions."""

    def open(self, worker: WorkerContext) -> None:
        """Import the modules and the functions that are known. A failure concerns the calls of that function only."""
        settings: FunctionSettings = worker.settings
        self._modules = settings.modules
        self._loaded: dict[str, _LoadedFunction | Exception] = {}
        self._resources = _Resources()
        for module in settings.preload:
            try:
                import_module(module)
            except Exception:  # raised by the module's own code
                _log.warning("the module %r cannot be preloaded", module, exc_info=True)
        for reference in settings.functions:
            self._find(reference)

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload | None:  # noqa: ARG002
        """Call a function.

        Raises:
            InvalidTask: the arguments are not those of the function.
            PluginError: the function cannot be loaded, or is not allowed.
            Exception: any exception of the function.
        """
        (call,) = cast("Sequence[Call]", operations)
        found = self._find(call.function)
        if isinstance(found, Exception):
            raise PluginError("functions", f"{call.function} cannot be loaded: {type(found).__name__}: {found}") from found
        return found.call(call.arguments, task.sources, task)

    def _find(self, reference: str) -> _LoadedFunction | Exception:
        found = self._loaded.get(reference)
        if found is None:
            try:
                found = self._load(reference)
            except Exception as error:  # raised by the module's own code
                found = error
            self._loaded[reference] = found
        return found

    def _load(self, reference: str) -> _LoadedFunction:
        target = find_function(reference)
        options = find_options(target)
        if options is None and not is_in_modules(reference, self._modules):
            raise PermissionError("it is not decorated with @offloop.function")
        options = options or UNDECLARED
        signature = Signature(target, reference.replace(":", "."), pickles_arguments=options.pickles_arguments)
        return _LoadedFunction(target, signature, self._resources)


class _Resources:
    """The resources of a worker. Each is made once; what it raised is raised by each call that needs it."""

    def __init__(self) -> None:
        self._made: dict[Callable[[], Any], Any] = {}
        self._failed: dict[Callable[[], Any], Exception] = {}

    def make(self, target: Callable[[], Any]) -> None:
        """Make a resource, unless that was done."""
        if target in self._made or target in self._failed:
            return
        try:
            self._made[target] = target()
        except Exception as error:  # raised by the resource's own code
            self._failed[target] = error

    def get(self, target: Callable[[], Any]) -> Any:
        """Returns a resource.

        Raises:
            PluginError: it could not be made.
        """
        self.make(target)
        if target in self._failed:
            error, name = self._failed[target], f"{target.__module__}.{target.__qualname__}"
            raise PluginError("functions", f"the resource {name} cannot be made: {type(error).__name__}: {error}") from error
        return self._made[target]


class _LoadedFunction:
    """A function of a worker, whose resources are made."""

    def __init__(self, target: Callable[..., Any], signature: Signature, resources: _Resources) -> None:
        self._target = target
        self._signature = signature
        self._given = [(name, find_resource(annotation)) for name, annotation in signature.given_by_worker()]
        self._resources = resources
        for _, needed in self._given:
            if needed is not None:
                resources.make(needed)
        self._results = ResultCodec(signature.result, signature.name)

    def call(self, encoded: bytes, sources: Sequence[Payload], task: Task) -> Payload | None:
        """Call the function. Returns its result; None if it is a generator function, whose values were handed over."""
        values = self._signature.decode(encoded, sources)
        for name, needed in self._given:
            values[name] = Context(task) if needed is None else self._resources.get(needed)
        arguments, keywords = self._signature.bind(values)
        result = self._target(*arguments, **keywords)
        if not self._signature.is_generator:
            return self._results.encode(result, task)
        self._hand_over(result, task)
        return None

    def _hand_over(self, values: Generator[Any, Any, Any], task: Task) -> None:
        try:
            for value in values:
                task.emit(self._results.encode(value, task))
        finally:
            values.close()
