"""The calls of `ClusterPool` that give work to it: `run`, `map`, `run_many`, `call`, `probe`."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import monotonic
from types import EllipsisType
from typing import Any, TypeVar, Unpack

from offloop import Header, OffloopError, Operation, PoolClosed, PoolMisused, Result, TaskFailed
from offloop.client.batches.source_puller import SourcePuller, Sources
from offloop.client.previews import PreviewCallback, PreviewListener
from offloop.client.progress_listener import ProgressCallback
from offloop.functions.callee import CalleeTable
from offloop.plugins import Planner, Registry
from offloop.settings import PoolSettings, check_range
from offloop.task_options import TaskKeywords, TaskOptions

from ..storage import Url
from .batch import ClusterBatch
from .files import written_to_file
from .named_outcomes import ClusterNamedOutcomes
from .nodes.membership import Membership
from .progress import ProgressCalls
from .remote_task import Received
from .requests import RequestMaker, destination_of, head_of
from .results import ClusterResult, result_of
from .task_calls import TaskCalls

__all__ = ["ClusterCalls"]

SourceT = TypeVar("SourceT")
ResultT = TypeVar("ResultT")

_MAX_PIPELINES = 32


class ClusterCalls:
    """The calls of a cluster's pool."""

    _defaults: PoolSettings
    _membership: Membership
    _calls: TaskCalls
    _requests: RequestMaker
    _registry: Registry
    _planner: Planner
    _callees: CalleeTable
    _loop: asyncio.AbstractEventLoop | None = None
    _is_open = False

    async def run(
        self,
        source: Any,
        pipeline: Iterable[Operation],
        *,
        to: str | os.PathLike[str] | Url | None = None,
        on_progress: ProgressCallback | None = None,
        on_preview: PreviewCallback | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> ClusterResult:
        """Run a pipeline on a source, on a node. As `Pool.run`, but:

        Args:
            source: also a `Url`, which the node fetches. Other sources are sent to the node, up to `max_source_bytes`; a path
                is that of a file of this machine. A `Buffer` is refused.
            pipeline, on_preview: as for `Pool.run`.
            to: also a URL, as text or as `Url`: the node writes the result there, completely or not at all. A path is that of a
                file of this machine.
            on_progress: at most 5 times a second.
            coalesce: tasks are shared on one node only.
            options: see `TaskKeywords`; `queue_timeout` is for the wait for a node, and there for memory and a worker.

        Raises:
            NodeDied: the node died, left or was cut off. It is a `WorkerDied`.
            SchedulerLost: the scheduler died before the task had its outcome, or there is no node for `reconnect_timeout`.
            InvalidTask: also if a URL names no object.
            TaskFailed: also with the codes "source_unavailable" and "cannot_write", of a storage.
            OffloopError: every error of `Pool.run`.

        Cancelling the call stops the task on its node, within the grace of the node's pool.
        """
        self._check()
        url, file = destination_of(to)
        checked = TaskOptions.checked(self._defaults, "run", options)
        progress = None if on_progress is None else ProgressCalls(on_progress)
        listener = None if on_preview is None else _Previews(PreviewListener(on_preview))
        prepare = partial(
            self._requests.run, source, pipeline, checked, url, wants_previews=listener is not None, coalesce=coalesce
        )
        result = await self._run_one(prepare, progress, None if listener is None else listener.add)
        if listener is not None:
            await listener.finish()
        return result if file is None else await written_to_file(result, file)

    def map(
        self,
        sources: Sources[Any],
        pipeline: Iterable[Operation] | None = None,
        *,
        ordered: bool = False,
        max_in_flight: int | None = None,
        to: Callable[[Any], str | os.PathLike[str]] | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> ClusterBatch[Any]:
        """Run a pipeline on many sources, on all nodes, and iterate over the outcomes as the tasks finish. As `Pool.map`, but:

        Args:
            sources, to, coalesce, options: as for `run` of this class.
            pipeline, ordered: as for `Pool.map`.
            max_in_flight: maximum number of tasks that run or whose outcomes are unread. Default: twice the number of tasks
                that all nodes may run at once, as nodes join and leave; and at least 8.

        Raises:
            ValueError, TypeError, InvalidTask, PluginError, PoolClosed, PoolMisused: as `Pool.map`.
        """
        self._check()
        if max_in_flight is not None:
            check_range("max_in_flight", max_in_flight, 1, math.inf, whole=True)
        checked = TaskOptions.checked(self._defaults, "map", options)
        pipeline = None if pipeline is None else list(pipeline)
        if pipeline is not None:
            self._requests.check(pipeline)

        async def run(source: Any, operations: Iterable[Operation], path: Any, on_preview: Callable[[Result], None]) -> Result:
            url, file = destination_of(path)
            prepare = partial(self._requests.run, source, operations, checked, url, wants_previews=True, coalesce=coalesce)
            result = await self._run_one(prepare, None, on_preview)
            return result if file is None else await written_to_file(result, file)

        puller = SourcePuller(sources, pipeline, to)
        concurrency = partial(getattr, self._membership, "concurrency")
        return ClusterBatch(puller, run, concurrency, ordered=ordered, max_in_flight=max_in_flight)

    def run_many(
        self,
        source: SourceT,
        pipelines: Mapping[str, Iterable[Operation]],
        *,
        to: Mapping[str, str | os.PathLike[str]] | None = None,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[TaskKeywords],
    ) -> ClusterNamedOutcomes[SourceT]:
        """Run several named pipelines on one source, in one task on one node. As `Pool.run_many`, with sources and destinations
        as for `run` of this class.

        Raises:
            ValueError, TypeError, InvalidTask, PluginError, PoolClosed, PoolMisused: as `Pool.run_many`.
        """
        self._check()
        check_range("the number of pipelines", len(pipelines), 1, _MAX_PIPELINES, whole=True)
        pipelines = {name: list(pipeline) for name, pipeline in pipelines.items()}
        for name, pipeline in pipelines.items():
            if not isinstance(name, str) or not 1 <= len(name) <= 100:  # pyright: ignore[reportUnnecessaryIsInstance] # noqa: PLR2004 (as in `Pool.run_many`)
                raise ValueError(f"the name {name!r} of a pipeline: must be text of 1 to 100 characters")
            self._requests.check(pipeline)
        unknown = set(to or ()) - set(pipelines)
        if unknown:
            raise ValueError(f"to={min(unknown)!r}: there is no pipeline of this name")
        checked = TaskOptions.checked(self._defaults, "run_many", options)
        destinations = {name: destination_of(path) for name, path in (to or {}).items()}
        urls = {name: url for name, (url, _) in destinations.items() if url is not None}
        files = {name: file for name, (_, file) in destinations.items() if file is not None}
        progress = None if on_progress is None else ProgressCalls(on_progress)
        update = None if progress is None else progress.update

        async def run(on_output: Callable[[Received], None], wants_previews: bool) -> None:
            prepare = partial(self._requests.run_many, source, pipelines, checked, urls, wants_previews=wants_previews)
            await self._calls.run(prepare, on_output, update)

        return ClusterNamedOutcomes(run, tuple(pipelines), source, files, progress)

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
        """Call a function on a node, and return its result. As `Pool.call`; the node must be able to import the function.

        Bytes, arrays and tables are sent to the node, together up to `max_source_bytes`; a `Url` stands for bytes that the node
        fetches. Views and arrays of the result lie in memory of this process.

        Raises:
            Every error of `Pool.call`, and those of `run` of this class.
        """
        self._check()
        callee = self._callees.find(function, self._registry, self._planner)
        given: TaskKeywords = {
            "timeout": callee.options.timeout_s if timeout is ... else timeout,
            "queue_timeout": queue_timeout,
            "retries": retries,
            "priority": priority,
            "tenant": tenant,
            "memory_limit": memory_limit,
            "labels": labels,
        }
        options = TaskOptions.checked(self._defaults, "call", given)
        progress = None if on_progress is None else ProgressCalls(on_progress)
        try:
            result = await self._run_one(partial(self._requests.call, callee, arguments, keywords, options), progress, None)
            decode = partial(callee.results.decode, result.info, result.data)
            return await asyncio.to_thread(decode) if callee.results.is_slow(result.nbytes) else decode()
        except OffloopError as error:
            callee.add_note(error)
            raise

    async def probe(self, source: Any) -> Header:
        """Read a source's header without decoding the source, as `Pool.probe`. A node reads the first bytes of a `Url`.

        Raises:
            TaskFailed: with the code "unsupported_format": no plugin knows the format; or "source_unavailable".
            InvalidTask: the source cannot be read, or is samples, which have no header.
        """
        self._check()
        if isinstance(source, Url):
            head = await self._head(source)
        else:
            head = await asyncio.to_thread(head_of, source, self._registry.probe_nbytes)
        header = await asyncio.to_thread(self._registry.probe, head.toreadonly())
        if header is None:
            raise TaskFailed("unsupported_format", "no plugin of this pool knows the format of this source")
        return header

    async def _run_one(
        self,
        prepare: Callable[[], Any],
        progress: ProgressCalls | None,
        on_preview: Callable[[Result], None] | None,
    ) -> ClusterResult:
        """Run a task with one result."""
        queued = monotonic()
        results: list[ClusterResult] = []

        def take(received: Received) -> None:
            assert received.head is not None, "a task with one pipeline fails as a whole"
            result = result_of(received.head, received.data, received.node, queued)
            if not received.is_preview:
                results.append(result)
            elif on_preview is not None:
                on_preview(result)

        try:
            await self._calls.run(prepare, take, None if progress is None else progress.update)
        except BaseException:
            if progress is not None:
                await progress.cancel()
            raise
        if progress is not None:
            await progress.finish()
        return results[-1]

    async def _head(self, source: Url) -> memoryview:
        async def prepare() -> Any:
            return self._requests.head(source, max(self._registry.probe_nbytes, 1))

        return (await self._run_one(prepare, None, None)).data

    def _check(self) -> None:
        if not self._is_open or self._calls.is_draining:
            raise PoolClosed
        self._check_loop()

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not None and loop is not self._loop:
            raise PoolMisused("event loop", repr(self._loop), repr(loop))


class _Previews:
    """Calls `on_preview` with one preview after the other."""

    def __init__(self, listener: PreviewListener) -> None:
        self._listener = listener
        self._calls: asyncio.Future[None] | None = None

    def add(self, preview: Result) -> None:
        """A preview has come."""
        self._calls = asyncio.ensure_future(self._call(self._calls, preview))

    async def finish(self) -> None:
        """Wait for the last call to end."""
        if self._calls is not None:
            await self._calls

    async def _call(self, former: asyncio.Future[None] | None, preview: Result) -> None:
        if former is not None:
            await former
        await self._listener(preview)
