"""The calls of functions: `call`, `map_call`, `stream_call`, `as_executor`. `Pool` inherits them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from types import EllipsisType
from typing import Any, TypeVar, Unpack, cast

from ..client.batches.batch import Batch
from ..client.batches.source_puller import SourcePuller
from ..client.calls import Calls
from ..client.outputs.frames import FrameStream, Overrun, check_reading
from ..client.progress_listener import ProgressCallback, run_with_progress
from ..client.results import Result
from ..client.sources import classify_all
from ..client.submission import Submission, TaskTemplate
from ..errors import InvalidTask, OffloopError
from ..runtime.supervisor import Supervisor
from ..settings import check_range
from ..task_options import StreamKeywords, TaskKeywords, TaskOptions
from .call_batch import CallBatch
from .callee import Callee, CalleeTable
from .executor import PoolExecutor
from .plugin import Call
from .value_stream import ValueStream

__all__ = ["FunctionCalls"]

ResultT = TypeVar("ResultT")

_NO_SOURCE = classify_all(b"")


class FunctionCalls(Calls):
    """The calls of a pool, with those of functions."""

    def __init__(self) -> None:
        self._callees = CalleeTable()

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
        memory_limit: int | str | None = None,
        labels: Mapping[str, str] | None = None,
        on_progress: ProgressCallback | None = None,
        **keywords: Any,
    ) -> ResultT:
        """Call a function in a worker, and return its result.

            png = await pool.call(render_page, upload, page=3, timeout=20)

        Args:
            function: a function of a module, declared with `@offloop.function`, or of a module in `Pool(functions=[...])`.
            arguments, keywords: its arguments, of the types of its annotations. For a parameter that travels in shared memory
                (`bytes`, `memoryview`, `numpy.ndarray`, an Arrow table): also a path, a `Buffer` or a `Result`, as a source of
                `run`; at most 16 of them.
            timeout, queue_timeout, retries, priority, tenant, memory_limit, labels: see `TaskKeywords`. They are named here
                because `keywords` are the function's.
            on_progress: as for `run`.

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
        callee = self._callees.find(function, self._registry, self._planner)
        has_options = (
            not (queue_timeout is retries is tenant is memory_limit is labels is None) or timeout is not ... or priority
        )
        if has_options or callee.template is None:
            given: TaskKeywords = {
                "timeout": callee.options.timeout_s if timeout is ... else timeout,
                "queue_timeout": queue_timeout,
                "retries": retries,
                "priority": priority,
                "tenant": tenant,
                "memory_limit": memory_limit,
                "labels": labels,
            }
            template = TaskTemplate.of(callee.plan, TaskOptions.checked(self._settings, "call", given))
            if not has_options:
                callee.template = template
        else:  # saves the check of the options
            template = callee.template
        submission = self._call_submission(supervisor, callee, arguments, keywords, template)
        try:
            if on_progress is None:
                result = await submission.run()
            else:
                result = await run_with_progress(supervisor, submission, on_progress)
            if callee.results.is_slow(result.data.nbytes):
                return await callee.value_of(result, supervisor.background)
            return callee.results.decode(result.raw_info, result.data)
        except OffloopError as error:
            callee.add_note(error)
            raise

    async def run_call(
        self,
        call: Call,
        sources: Sequence[Any],
        *,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[TaskKeywords],
    ) -> Result:
        """Run a call of a function whose arguments were encoded by another process, for pools of several machines.

        Args:
            call: import path of the function, and its encoded arguments, as `Callee.call` makes them.
            sources: the arguments that travel in shared memory, as sources of `run`.
            on_progress, options: as for `run`.

        Returns:
            The encoded value of the function, which the other process decodes.

        Raises:
            Every error of `run`. The worker checks whether the function may be called, and its arguments.
        """
        supervisor = self._open()
        checked = TaskOptions.checked(self._settings, "run_call", options)
        materials = classify_all(sources[0] if sources else b"", sources[1:])
        template = TaskTemplate.of(self._planner.plan([call]), checked)
        submission = Submission(supervisor, self._stager, template, materials)
        if on_progress is None:
            return await submission.run()
        return await run_with_progress(supervisor, submission, on_progress)

    def map_call(
        self,
        function: Callable[..., ResultT],
        arguments: Iterable[tuple[Any, ...] | Mapping[str, Any]] | AsyncIterable[tuple[Any, ...] | Mapping[str, Any]],
        /,
        *,
        ordered: bool = False,
        max_in_flight: int | None = None,
        **options: Unpack[TaskKeywords],
    ) -> CallBatch[ResultT]:
        """Call a function many times, and iterate over the outcomes as the calls finish.

            async with pool.map_call(render_page, ((upload, page) for page in range(40))) as outcomes:
                async for outcome in outcomes:
                    save(outcome.arguments, outcome.unwrap())

        Arguments are pulled when there is room for them, as the sources of `map`.

        Args:
            function: as for `call`.
            arguments: an iterable or async iterable of tuples of positional arguments, or of mappings of keyword arguments.
            ordered, max_in_flight: as for `map`.
            options: those of each call, see `TaskKeywords`.

        Raises:
            InvalidTask, PluginError: no worker can call the function. Arguments of the wrong type are an outcome with an error.
            ValueError, TypeError, PoolClosed, PoolMisused: as `map`.
        """
        supervisor = self._open()
        callee = self._callees.find(function, self._registry, self._planner)
        if max_in_flight is not None:
            check_range("max_in_flight", max_in_flight, 1, math.inf, whole=True)
        checked = TaskOptions.checked(self._settings, "map_call", _with_default_timeout(options, callee))
        template = TaskTemplate.of(callee.plan, checked)

        def submit(given: Any, _pipeline: object, _path: object) -> Submission:
            if isinstance(given, Mapping):
                return self._call_submission(supervisor, callee, (), cast("Mapping[str, Any]", given), template)
            if not isinstance(given, tuple):
                raise InvalidTask(f"{given!r} is given as the arguments of a call; give a tuple, as (value,), or a mapping")
            return self._call_submission(supervisor, callee, cast("tuple[Any, ...]", given), {}, template)

        puller = SourcePuller(arguments, (), None)
        batch: Batch[Any] = Batch(supervisor, puller, submit, ordered=ordered, max_in_flight=max_in_flight)
        return CallBatch(batch, callee, supervisor.background)

    def stream_call(
        self,
        function: Callable[..., Iterator[ResultT]],
        /,
        *arguments: Any,
        buffer: int = 4,
        overrun: Overrun = "wait",
        frame_timeout: float | EllipsisType | None = ...,
        idle_timeout: float | None = 60.0,
        queue_timeout: float | None = None,
        retries: int | None = None,
        priority: int = 0,
        tenant: str | None = None,
        memory_limit: int | str | None = None,
        labels: Mapping[str, str] | None = None,
        on_progress: ProgressCallback | None = None,
        **keywords: Any,
    ) -> ValueStream[ResultT]:
        """Call a generator function in a worker, and read each value as soon as it is yielded.

            async with pool.stream_call(read_pages, upload) as pages:
                async for page in pages:
                    ...

        Args:
            function: a generator function, otherwise as for `call`.
            arguments, keywords, queue_timeout, retries, priority, tenant, memory_limit, labels, on_progress: as for `call`.
            buffer, overrun, idle_timeout: as for `stream`.
            frame_timeout: seconds that each value may take, without waits for the reader; None: no limit. Default: `timeout` of
                the decorator, else of the pool.

        Raises:
            ValueError, TypeError, InvalidTask, PluginError, PoolClosed, PoolMisused: as `call` and `stream`. Other errors are
                raised when the values are read.
        """
        supervisor = self._open()
        callee = self._callees.find(function, self._registry, self._planner, generates=True)
        check_reading(buffer, overrun)
        given: StreamKeywords = {
            "queue_timeout": queue_timeout,
            "retries": retries,
            "priority": priority,
            "tenant": tenant,
            "memory_limit": memory_limit,
            "labels": labels,
        }
        options = TaskOptions.for_stream(
            self._settings,
            "stream_call",
            given,
            credit=buffer + (overrun == "latest"),
            frame_timeout=callee.options.timeout_s if frame_timeout is ... else frame_timeout,
            idle_timeout=idle_timeout,
        )
        template = TaskTemplate.of(callee.plan, options)
        submission = self._call_submission(supervisor, callee, arguments, keywords, template)
        return ValueStream(FrameStream(supervisor, submission, buffer, overrun, on_progress), callee, supervisor.background)

    def as_executor(self, **options: Unpack[TaskKeywords]) -> PoolExecutor:
        """Return a `concurrent.futures.Executor` whose functions are called as by `call`, for code that takes an executor.

            value = await loop.run_in_executor(pool.as_executor(), parse, upload)

        Any thread may use it. Cancelling a future stops its function. The options are those of each call, see `TaskKeywords`.

        Raises:
            ValueError, TypeError: an option is out of its range, or of the wrong type, or not known.
            PoolClosed, PoolMisused: as `run`.
        """
        supervisor = self._open()
        TaskOptions.checked(self._settings, "as_executor", options)
        call = partial(self.call, **options)
        return PoolExecutor(call, supervisor.affinity, supervisor.background)

    def _call_submission(
        self,
        supervisor: Supervisor,
        callee: Callee,
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        template: TaskTemplate,
    ) -> Submission:
        operation, sources = callee.call(arguments, keywords)
        materials = classify_all(sources[0], sources[1:]) if sources else _NO_SOURCE
        stages = self._planner.stages_of(callee.plan, [operation])
        return Submission(supervisor, self._stager, template, materials, stages)


def _with_default_timeout(options: TaskKeywords, callee: Callee) -> TaskKeywords:
    return options if options.get("timeout", ...) is not ... else {**options, "timeout": callee.options.timeout_s}
