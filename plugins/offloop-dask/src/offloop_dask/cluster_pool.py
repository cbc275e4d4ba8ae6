"""The `ClusterPool` class: `async with ClusterPool("tcp://scheduler:8786") as pool`, then the calls of `Pool`."""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic
from types import EllipsisType, TracebackType
from typing import Any, Self, TypeVar

from distributed import Client

from offloop import Header, OffloopError, Operation, Plugin, PoolClosed, PoolMisused, Result, TaskFailed
from offloop.client.batches.source_puller import SourcePuller, Sources
from offloop.client.previews import PreviewCallback, PreviewListener
from offloop.client.progress_listener import ProgressCallback
from offloop.functions.callee import CalleeTable
from offloop.functions.plugin import FunctionsPlugin
from offloop.plugins import Planner, Registry, group_plugins
from offloop.settings import PoolSettings, check_range, check_seconds
from offloop.task_options import TaskOptions

from .client.batch import ClusterBatch
from .client.counts import ClusterStatistics, statistics_of
from .client.dispatch import DispatchMode
from .client.files import written_to_file
from .client.membership import Membership
from .client.named_outcomes import ClusterNamedOutcomes
from .client.progress import ProgressCalls
from .client.remote_task import Received
from .client.requests import RequestMaker, destination_of, head_of
from .client.results import ClusterResult, result_of
from .client.task_calls import TaskCalls
from .node.plugin import OffloopPlugin
from .settings import ClusterSettings, NodeSettings
from .storage import Url
from .wire.messages import Hello
from .wire.versions import own_versions

__all__ = ["ClusterPool"]

SourceT = TypeVar("SourceT")
ResultT = TypeVar("ResultT")

_MAX_PIPELINES = 32


class ClusterPool:
    """The same pool on the nodes of a dask.distributed cluster: one `Pool` in each dask worker, and the calls of `Pool` here.

        async with ClusterPool("tcp://scheduler:8786", plugins=["vips"]) as pool:
            result = await pool.run(Url("s3://photos/1.jpg"), [Resize(720), Webp()], to="s3://out/1.webp")

    Enter it once, in an asyncio loop, and share it. Leaving the block stops every unfinished task, also on the nodes. The pools
    of the nodes stay open for `linger` seconds for the next client.

    Args:
        cluster: address of the scheduler, or an asynchronous `distributed.Client`, which stays the caller's.
        plugins: names of installed plugins, "module:attribute" references, or plugin classes of a module. Default: all that are
            installed. Client and nodes need the same versions.
        functions: names of modules and packages whose functions may run in workers without `@offloop.function`. Nodes must be
            able to import them.
        node: keywords of `Pool` for the nodes' pools: workers, memory_limit, max_queue, sandbox, ... Without them, each node
            uses its CPUs and half of its memory. Clients with the same plugins, functions and node settings share the pools.
        storage_options: options of obstore for the nodes: "endpoint", "region", "allow_http", ... They travel through the
            scheduler, so keep secrets in the environment of the nodes.
        timeout, retries: defaults of `run`. A retry after the death of a node goes to another node, if there is one.
        dispatch: "dask": each task is a dask task, and is seen in the dashboard; it costs the scheduler about a millisecond.
            "direct": requests go to their nodes without the scheduler.
        max_source_bytes: longest sources of one task that are sent to a node, in bytes or as in "64MiB". Longer ones must be
            URLs, which the node fetches.
        max_transfer_bytes: bytes of results that are under way to this client at a time.
        node_timeout: seconds of silence after which a node, or for the node a client, counts as gone.
        reconnect_timeout: seconds for which tasks wait for the first node, and for a node after the last one has gone.
        linger: seconds for which a node's pool stays open without a client.
        security: a `distributed.Security` for TLS. Only with an address.

    Raises:
        ValueError, TypeError: a setting is out of its range, or of the wrong type.
    """

    def __init__(
        self,
        cluster: str | Client,
        *,
        plugins: Sequence[str | type[Plugin]] | None = None,
        functions: Sequence[str] = (),
        node: Mapping[str, Any] | None = None,
        storage_options: Mapping[str, str] | None = None,
        timeout: float | None = 30.0,
        retries: int = 0,
        dispatch: DispatchMode = "dask",
        max_source_bytes: int | str = "64MiB",
        max_transfer_bytes: int | str = "256MiB",
        node_timeout: float = 15.0,
        reconnect_timeout: float = 30.0,
        linger: float = 30.0,
        security: Any = None,
    ) -> None:
        """Check the settings. Nothing is connected before the pool is entered."""
        if dispatch not in ("dask", "direct"):
            raise ValueError(f"dispatch={dispatch!r}: must be 'dask' or 'direct'")
        if not isinstance(cluster, str) and not getattr(cluster, "asynchronous", False):
            raise TypeError(f"cluster={cluster!r}: give the address of a scheduler, or a Client(asynchronous=True)")
        self._settings = ClusterSettings.checked(
            max_source_bytes=max_source_bytes,
            max_transfer_bytes=max_transfer_bytes,
            node_timeout=node_timeout,
            reconnect_timeout=reconnect_timeout,
        )
        self._node_settings = NodeSettings.checked(
            node or {},
            plugins=plugins,
            functions=functions,
            storage_options=storage_options or {},
            linger=linger,
            node_timeout=node_timeout,
        )
        self._defaults = PoolSettings(timeout=timeout, retries=retries)
        self._session = secrets.token_hex(8)
        self._plugin = OffloopPlugin(self._node_settings.encoded())
        hello = Hello(own_versions(self._node_settings.plugin_names), self._session)
        self._membership = Membership(cluster, security, self._plugin, hello, self._settings)
        self._calls = TaskCalls(self._membership, self._settings, self._plugin.name, self._session, dispatch)
        self._callees = CalleeTable()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_open = False
        self._was_entered = False
        self._last: ClusterStatistics | None = None

    async def __aenter__(self) -> Self:
        """Connect, open the nodes' pools, and return when the first node is ready. Works once for a pool.

        Raises:
            SchedulerLost: the scheduler cannot be reached, or has no worker.
            VersionMismatch: a node has other versions than this client.
            PluginError: a plugin that was asked for cannot be used here.
            PoolClosed: the pool was entered before.
            OffloopError: no node's pool can be opened.
        """
        if self._was_entered:
            raise PoolClosed("a pool can be entered only once")
        self._was_entered = True
        self._loop = asyncio.get_running_loop()
        registry = await asyncio.to_thread(self._load_plugins)
        plugins = [registered.plugin for registered in registry.plugins.values()]
        asked = {group.name: group.plugins for group in self._node_settings.pool_options().get("groups", ())}
        self._registry = registry
        self._planner = Planner(registry, group_plugins(plugins, asked))
        self._requests = RequestMaker(self._planner, self._settings.max_source_bytes)
        try:
            await self._membership.open()
        except BaseException:
            await self._membership.close()
            raise
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop every unfinished task with `PoolClosed`, and leave the cluster."""
        self._check_loop()
        if self._is_open:
            self._last = self.statistics()
        self._is_open = False
        self._calls.is_draining = True
        await self._membership.close()
        await self._calls.idle.wait()
        if self._last is not None:
            self._last = statistics_of(self._calls.counts, (), {})

    async def run(
        self,
        source: Any,
        pipeline: Iterable[Operation],
        *,
        timeout: float | EllipsisType | None = ...,
        queue_timeout: float | None = None,
        retries: int | None = None,
        priority: int = 0,
        tenant: str | None = None,
        to: str | os.PathLike[str] | Url | None = None,
        memory_limit: int | str | None = None,
        on_progress: ProgressCallback | None = None,
        on_preview: PreviewCallback | None = None,
        coalesce: bool = False,
    ) -> ClusterResult:
        """Run a pipeline on a source, on a node. As `Pool.run`, but:

        Args:
            source: also a `Url`, which the node fetches. Other sources are sent to the node, up to `max_source_bytes`; a path
                is that of a file of this machine. A `Buffer` is refused.
            pipeline, timeout, retries, priority, tenant, memory_limit, on_preview: as for `Pool.run`.
            queue_timeout: seconds that the task may wait for a node, and there for memory and a worker.
            to: also a URL, as text or as `Url`: the node writes the result there, completely or not at all. A path is that of a
                file of this machine.
            on_progress: at most 5 times a second.
            coalesce: tasks are shared on one node only.

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
        options = self._options(timeout, queue_timeout, retries, priority, tenant, memory_limit)
        progress = None if on_progress is None else ProgressCalls(on_progress)
        listener = None if on_preview is None else _Previews(PreviewListener(on_preview))
        prepare = partial(
            self._requests.run, source, pipeline, options, url, wants_previews=listener is not None, coalesce=coalesce
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
        timeout: float | EllipsisType | None = ...,
        queue_timeout: float | None = None,
        retries: int | None = None,
        priority: int = 0,
        tenant: str | None = None,
        to: Callable[[Any], str | os.PathLike[str]] | None = None,
        coalesce: bool = False,
    ) -> ClusterBatch[Any]:
        """Run a pipeline on many sources, on all nodes, and iterate over the outcomes as the tasks finish. As `Pool.map`, but:

        Args:
            sources, to, timeout, queue_timeout, retries, priority, tenant, coalesce: as for `run` of this class.
            pipeline, ordered: as for `Pool.map`.
            max_in_flight: maximum number of tasks that run or whose outcomes are unread. Default: twice the number of tasks
                that all nodes may run at once, as nodes join and leave; and at least 8.

        Raises:
            ValueError, TypeError, InvalidTask, PluginError, PoolClosed, PoolMisused: as `Pool.map`.
        """
        self._check()
        if max_in_flight is not None:
            check_range("max_in_flight", max_in_flight, 1, math.inf, whole=True)
        options = self._options(timeout, queue_timeout, retries, priority, tenant, None)
        pipeline = None if pipeline is None else list(pipeline)
        if pipeline is not None:
            self._requests.check(pipeline)

        async def run(source: Any, operations: Iterable[Operation], path: Any, on_preview: Callable[[Result], None]) -> Result:
            url, file = destination_of(path)
            prepare = partial(self._requests.run, source, operations, options, url, wants_previews=True, coalesce=coalesce)
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
        timeout: float | EllipsisType | None = ...,
        queue_timeout: float | None = None,
        retries: int | None = None,
        priority: int = 0,
        tenant: str | None = None,
        to: Mapping[str, str | os.PathLike[str]] | None = None,
        on_progress: ProgressCallback | None = None,
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
        options = self._options(timeout, queue_timeout, retries, priority, tenant, None)
        destinations = {name: destination_of(path) for name, path in (to or {}).items()}
        urls = {name: url for name, (url, _) in destinations.items() if url is not None}
        files = {name: file for name, (_, file) in destinations.items() if file is not None}
        progress = None if on_progress is None else ProgressCalls(on_progress)
        update = None if progress is None else progress.update

        async def run(on_output: Callable[[Received], None], wants_previews: bool) -> None:
            prepare = partial(self._requests.run_many, source, pipelines, options, urls, wants_previews=wants_previews)
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
        options = self._options(
            callee.options.timeout_s if timeout is ... else timeout, queue_timeout, retries, priority, tenant, memory_limit
        )
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

    def statistics(self) -> ClusterStatistics:
        """Statistics of this client's tasks and of all nodes; of a closed pool the last ones.

        Raises:
            PoolClosed: the pool was never entered.
        """
        if self._is_open:
            return statistics_of(self._calls.counts, self._membership.links, self._membership.refused)
        if self._last is None:
            raise PoolClosed("the pool was never entered")
        return self._last

    async def drain(self, timeout: float | None = None) -> bool:
        """Refuse new tasks, wait for the present ones, and leave the cluster. The nodes' pools go on for other clients.

        Args:
            timeout: seconds after which the remaining tasks are stopped; None: no limit.

        Returns:
            Whether all tasks ended by themselves.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        if not self._was_entered:
            raise PoolClosed
        self._check_loop()
        self._calls.is_draining = True
        try:
            async with asyncio.timeout(timeout):
                await self._calls.idle.wait()
        except TimeoutError:
            is_complete = False
        else:
            is_complete = True
        await self.__aexit__(None, None, None)
        return is_complete

    # parts

    def _load_plugins(self) -> Registry:
        settings = self._node_settings
        functions = FunctionsPlugin(settings.functions)
        return Registry(settings.plugins_with_functions(), {FunctionsPlugin.name: functions})

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

    def _options(
        self,
        timeout: float | EllipsisType | None,
        queue_timeout: float | None,
        retries: int | None,
        priority: int,
        tenant: str | None,
        memory_limit: int | str | None,
    ) -> TaskOptions:
        return TaskOptions.checked(
            self._defaults,
            timeout=timeout,
            queue_timeout=queue_timeout,
            retries=retries,
            priority=priority,
            tenant=tenant,
            to=None,
            memory_limit=memory_limit,
        )

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
