"""The calls of functions: `Pool.call`. `Pool` inherits them."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import Any, NamedTuple, TypeVar

from ..client.calls import Calls
from ..client.progress_listener import ProgressCallback, run_with_progress
from ..client.results import Result
from ..client.sources import classify
from ..client.submission import Submission
from ..errors import InvalidTask, OffloopError, PluginError
from ..task_options import TaskOptions
from .declaration import UNDECLARED, FunctionOptions, find_options
from .plugin import Call, FunctionsPlugin, is_in_modules
from .reference import reference_of
from .results import ResultCodec
from .signature import Signature

__all__ = ["FunctionCalls"]

ResultT = TypeVar("ResultT")


class _Callee(NamedTuple):
    """A function that was checked."""

    reference: str
    options: FunctionOptions
    signature: Signature
    results: ResultCodec


class FunctionCalls(Calls):
    """The calls of a pool, with those of functions."""

    def __init__(self) -> None:
        self._callees: dict[Callable[..., Any], _Callee] = {}

    async def call(
        self,
        function: Callable[..., ResultT],
        /,
        *arguments: Any,
        timeout: float | EllipsisType | None = ...,
        queue_timeout: float | None = None,
        retries: int | None = None,
        priority: int = 0,
        tenant: str | None = None,
        on_progress: ProgressCallback | None = None,
        **keywords: Any,
    ) -> ResultT:
        """Call a function in a worker, and return its result.

            png = await pool.call(render_page, upload, page=3, timeout=20)

        Args:
            function: a function of a module, declared with `@offloop.function`, or of a module in `Pool(functions=[...])`.
            arguments, keywords: its arguments, of the types of its annotations. For a parameter that travels in shared memory
                (`bytes`, `memoryview`, `numpy.ndarray`): also a path, a `Buffer` or a `Result`, as a source of `run`.
            timeout: seconds that it may run; None: no limit. Default: that of its decorator, else the pool's.
            queue_timeout, retries, priority, tenant, on_progress: as for `run`.

        Returns:
            The result, decoded strictly by the annotation of the return value. Views and arrays are read-only and lie in
            shared memory of the pool, which is returned when the last of them is deleted.

        Raises:
            InvalidTask: the function cannot be found by a worker, or an argument is missing or has the wrong type; nothing was
                started.
            TaskFailed: the function raised an exception: the code is "exception", `exception_type` is its type, and
                `remote_traceback` its traceback. A `TaskFailed` that the function raises has its own code. "invalid_result":
                the result is not what the annotation allows.
            PluginError: a worker cannot import the function, or the pool has no plugin "functions".
            Every other error of `run`. Each has a note with the name of the function.

        Cancelling the call stops the function as a timeout does.
        """
        supervisor = self._open()
        callee = self._callee(function)
        if callee.signature.is_generator:
            raise InvalidTask(f"{callee.signature.name} is a generator function, which hands over many values; use stream_call")
        options = TaskOptions.checked(
            self._settings,
            timeout=callee.options.timeout_s if timeout is ... else timeout,
            queue_timeout=queue_timeout,
            retries=retries,
            priority=priority,
            tenant=tenant,
            to=None,
        )
        encoded, sources = callee.signature.encode(arguments, keywords)
        operation = Call(callee.reference, encoded, callee.options.memory_bytes)
        material = classify(_only_source(callee, sources))
        submission = Submission(supervisor, self._stager, self._planner.plan([operation]), (material,), options)
        try:
            if on_progress is None:
                result = await submission.run()
            else:
                result = await run_with_progress(supervisor, submission, on_progress)
            return _value_of(callee, result)
        except OffloopError as error:
            error.add_note(f"the function was {callee.signature.name}")
            raise

    def _callee(self, function: Callable[..., Any]) -> _Callee:
        """Check a function. Its checks are remembered.

        Raises:
            InvalidTask: no worker can call it.
            PluginError: the pool has no plugin "functions".
        """
        try:
            found = self._callees.get(function)
        except TypeError:  # it has no hash
            found = None
        if found is None:
            found = self._new_callee(function)
            self._callees[function] = found
        return found

    def _new_callee(self, function: Callable[..., Any]) -> _Callee:
        registered = self._registry.plugins.get(FunctionsPlugin.name)
        if registered is None:
            raise PluginError(FunctionsPlugin.name, 'this pool has it not; add "functions" to Pool(plugins=[...])')
        reference, options = reference_of(function), find_options(function)
        settings = registered.plugin.settings
        name = reference.replace(":", ".")
        if options is None and not is_in_modules(reference, getattr(settings, "modules", ())):
            module = function.__module__
            raise InvalidTask(
                f"{name} may not run in workers; decorate it with @offloop.function, or use Pool(functions=[{module!r}])"
            )
        options = options or UNDECLARED
        try:
            signature = Signature(function, name, pickles_arguments=options.pickles_arguments)
            return _Callee(reference, options, signature, ResultCodec(signature.result, name))
        except (TypeError, NameError) as error:
            raise InvalidTask(f"{name} cannot be called: {error}") from None


def _only_source(callee: _Callee, sources: list[Any]) -> Any:
    if len(sources) > 1:
        raise InvalidTask(f"{callee.signature.name}: {len(sources)} arguments are bytes or arrays, and one is the limit")
    return sources[0] if sources else b""


def _value_of(callee: _Callee, result: Result) -> Any:
    return callee.results.decode(result.info, result.data)
