"""The `ClusterPool` class: `async with ClusterPool("tcp://scheduler:8786") as pool`, then the calls of `Pool`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from distributed import Client

from offloop import Plugin, PoolClosed
from offloop.functions.callee import CalleeTable
from offloop.functions.plugin import FunctionsPlugin
from offloop.plugins import Planner, Registry, group_plugins
from offloop.settings import PoolSettings, check_seconds

from .client.calls import ClusterCalls
from .client.counts import ClusterStatistics, statistics_of
from .client.dispatch import DispatchMode
from .client.nodes.membership import Membership
from .client.requests import RequestMaker
from .client.task_calls import TaskCalls
from .node.plugin import OffloopPlugin
from .settings import ClusterSettings, NodeSettings
from .wire.messages import Hello
from .wire.versions import own_versions

__all__ = ["ClusterPool"]

SourceT = TypeVar("SourceT")
ResultT = TypeVar("ResultT")

_MAX_PIPELINES = 32


class ClusterPool(ClusterCalls):
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
            able to import them. Modules of declared functions that are imported here when the pool is made are imported on
            the nodes, too.
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
        await self._calls.close()
        if self._last is not None:
            self._last = statistics_of(self._calls.counts, (), {})

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

    def _load_plugins(self) -> Registry:
        settings = self._node_settings
        functions = FunctionsPlugin(settings.functions)
        return Registry(settings.plugins_with_functions(), {FunctionsPlugin.name: functions})
