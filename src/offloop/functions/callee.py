"""A function that a pool may call: its import path, options and signature, checked once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..client.results import Result
from ..client.submission import TaskTemplate
from ..errors import InvalidTask, OffloopError, PluginError
from ..plugins import Plan, Planner, Registry
from ..runtime.loop.background import BackgroundTasks
from .declaration import UNDECLARED, FunctionOptions, find_options
from .encoding.results import ResultCodec
from .encoding.signature import Signature
from .plugin import Call, FunctionsPlugin, is_in_modules
from .reference import reference_of

__all__ = ["Callee", "CalleeTable"]


class Callee:
    """A function that was checked."""

    template: TaskTemplate | None = None  # what calls without options share; None: there was none yet

    def __init__(
        self, reference: str, options: FunctionOptions, signature: Signature, results: ResultCodec, plan: Plan
    ) -> None:
        """`plan`: of a call without arguments."""
        self.reference = reference
        self.options = options
        self.signature = signature
        self.results = results
        self.plan = plan

    @property
    def name(self) -> str:
        """Name of the function in messages."""
        return self.signature.name

    def call(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[Call, list[Any]]:
        """Returns the operation of a call, and its sources.

        Raises:
            InvalidTask: an argument is missing, is not known, or has the wrong type.
        """
        encoded, sources = self.signature.encode(arguments, keywords)
        return Call(self.reference, encoded, self.options.memory_bytes), sources

    async def value_of(self, result: Result, background: BackgroundTasks) -> Any:
        """Returns the value that the function returned. A large one is decoded in a thread.

        Raises:
            TaskFailed: the worker returned what the annotation does not allow.
        """
        if not self.results.is_slow(result.nbytes):
            return self.results.decode(result.raw_info, result.data)
        decode = partial(self.results.decode, result.raw_info, result.data)
        return await background.run_in_thread(decode, limiter=background.source_threads)

    def add_note(self, error: BaseException) -> None:
        """Add the name of the function to an error of its call."""
        if isinstance(error, OffloopError):
            error.add_note(f"the function was {self.name}")


class CalleeTable:
    """The functions that a pool has called."""

    def __init__(self) -> None:
        self._callees: dict[Callable[..., Any], Callee] = {}

    def find(self, function: Callable[..., Any], registry: Registry, planner: Planner, *, generates: bool = False) -> Callee:
        """Check a function, or return what was found before.

        Args:
            function: the function.
            registry, planner: the plugins of the pool.
            generates: whether it must be a generator function; otherwise it must not be one.

        Raises:
            InvalidTask: no worker can call it, or it is not of that kind.
            PluginError: the pool has no plugin "functions".
        """
        try:
            callee = self._callees.get(function)
        except TypeError:  # it has no hash
            callee = None
        if callee is None:
            callee = self._callees[function] = _checked(function, registry, planner)
        if callee.signature.is_generator and not generates:
            raise InvalidTask(f"{callee.name} is a generator function, which hands over many values; use stream_call")
        if generates and not callee.signature.is_generator:
            raise InvalidTask(f"{callee.name} is no generator function, so it has one value; use call")
        return callee


def _checked(function: Callable[..., Any], registry: Registry, planner: Planner) -> Callee:
    registered = registry.plugins.get(FunctionsPlugin.name)
    if registered is None:
        raise PluginError(FunctionsPlugin.name, 'this pool has it not; add "functions" to Pool(plugins=[...])')
    reference, options = reference_of(function), find_options(function)
    name = reference.replace(":", ".")
    if options is None and not is_in_modules(reference, getattr(registered.plugin.settings, "modules", ())):
        module = function.__module__
        raise InvalidTask(
            f"{name} may not run in workers; decorate it with @offloop.function, or use Pool(functions=[{module!r}])"
        )
    options = options or UNDECLARED
    try:
        signature = Signature(function, name, pickles_arguments=options.pickles_arguments)
        results = ResultCodec(signature.result, name)
    except (TypeError, NameError) as error:
        raise InvalidTask(f"{name} cannot be called: {error}") from None
    return Callee(reference, options, signature, results, planner.plan([Call(reference, b"", options.memory_bytes)]))
