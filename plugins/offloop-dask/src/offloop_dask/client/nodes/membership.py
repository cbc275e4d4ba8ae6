"""The nodes of a cluster: asks the scheduler which workers there are, opens a link to each, and gives tasks their nodes.

The scheduler is asked twice a second for the addresses of its workers. A link tells by its end, or by its silence, that its
node is gone. When the scheduler is gone, dask workers end themselves; the pool connects again until it is closed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any

from distributed import Client

from offloop import OffloopError, PoolClosed, QueueTimeout

from ...errors import NodeDied, SchedulerLost, VersionMismatch
from ...node.plugin import OffloopPlugin
from ...settings import ClusterSettings
from ...wire.messages import Hello
from .node_link import NodeLink, NodeNotReady
from .placement import NodeLoad
from .waiting_tasks import WaitingTasks

__all__ = ["Membership"]

_log = logging.getLogger("offloop.cluster")

_POLL_S = 0.5  # seconds between questions to the scheduler
_PING_S = 1.0
_ANSWER_S = 5.0  # seconds that the scheduler has for an answer
_OPEN_POOL_S = 120.0  # seconds that a node's pool may take to open: its plugins' load time-outs, and more
_RETRY_S = 1.0  # seconds until a node that was not ready is asked again


class Membership:
    """The dask client of a pool, and its links to the nodes."""

    def __init__(
        self,
        cluster: str | Client,
        security: Any,
        plugin: OffloopPlugin,
        hello: Hello,
        settings: ClusterSettings,
    ) -> None:
        self._given = cluster
        self._security = security
        self._plugin = plugin
        self._hello = hello
        self._settings = settings
        self._client: Client | None = None if isinstance(cluster, str) else cluster
        self._links: dict[str, NodeLink] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._retry_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting = WaitingTasks(self._loads)
        self._without_nodes_since: float | None = None
        self._scheduler_error: str | None = None  # why the scheduler does not answer; None: it does
        self._is_registered = False
        self._is_closed = False
        self.refused: dict[str, OffloopError] = {}
        """Errors of the nodes that cannot be used, by address."""
        self._asked = asyncio.Event()

    # what others ask

    @property
    def client(self) -> Client:
        """The dask client.

        Raises:
            SchedulerLost: there is none at the moment.
        """
        if self._client is None or self._scheduler_error is not None:
            raise SchedulerLost(self.address, self._scheduler_error or "it was never reached")
        return self._client

    @property
    def address(self) -> str:
        """Address of the scheduler."""
        if isinstance(self._given, str):
            return self._given
        scheduler: Any = self._given.scheduler
        return str(getattr(scheduler, "address", "unknown"))

    @property
    def links(self) -> tuple[NodeLink, ...]:
        """Links to the nodes that can take tasks."""
        return tuple(self._links.values())

    @property
    def has_room(self) -> bool:
        """Whether a task would get a node at once."""
        return not self._waiting and any(load.has_room for load in self._loads())

    @property
    def concurrency(self) -> int:
        """Maximum number of running tasks, on all nodes together."""
        return sum(link.load.concurrency for link in self._links.values())

    # opening and closing

    async def open(self) -> None:
        """Connect, and wait for the first node.

        Raises:
            SchedulerLost: the scheduler cannot be reached, or has no worker within `reconnect_timeout`.
            VersionMismatch: versions of a node differ.
            OffloopError: no node's pool can be opened.
        """
        try:
            await self._connect()
        except OSError as error:
            raise SchedulerLost(self.address, _text_of(error)) from None
        deadline = monotonic() + self._settings.reconnect_timeout_s
        while True:
            if not await self._update():
                raise SchedulerLost(self.address, self._scheduler_error or "it does not answer")
            if self._opening:
                await asyncio.wait(self._opening.values())
            mismatch = next((error for error in self.refused.values() if isinstance(error, VersionMismatch)), None)
            if mismatch is not None:
                raise mismatch
            if self._links:
                break
            if self.refused:
                raise next(iter(self.refused.values()))
            if monotonic() > deadline:
                raise SchedulerLost(self.address, "it has no worker that can be reached")
            await asyncio.sleep(_POLL_S)
        self._start(self._watch())

    async def close(self) -> None:
        """Close all links, so that the nodes stop what is left, and the client, if it is our own."""
        self._is_closed = True
        self._waiting.refuse(PoolClosed())
        for task in (*self._opening.values(), *self._tasks):
            task.cancel()
        links = self.links
        for link in links:
            with suppress(Exception):
                await link.close()
        tasks = (*self._opening.values(), *self._tasks)
        if tasks:
            await asyncio.wait(tasks)
        for link in links:  # also those whose reader was cancelled before its first step
            link.abort()
            self._settle(link, PoolClosed)
        if isinstance(self._given, str) and self._client is not None:
            await _closed(self._client)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # placement

    async def place(self, nbytes: int, priority: int, avoided: frozenset[str], queue_timeout_s: float | None) -> NodeLink:
        """Wait for a node with room, and count the task there. `release` follows.

        Args:
            nbytes: length of the task's sources, as far as it is known.
            priority: tasks of a higher one are placed before.
            avoided: addresses of nodes that get it only if there is no other one.
            queue_timeout_s: seconds to wait; None: no limit.

        Raises:
            QueueTimeout: it waited too long.
            SchedulerLost: there is no node for `reconnect_timeout`.
            PoolClosed: the pool was closed meanwhile.
        """
        try:
            async with asyncio.timeout(queue_timeout_s):
                load = await self._waiting.place(nbytes, priority, avoided)
        except TimeoutError:
            assert queue_timeout_s is not None, "there was a limit"
            raise QueueTimeout(queue_timeout_s, "a node") from None
        return self._links[load.address]

    def release(self, link: NodeLink) -> None:
        """A task that was placed has its outcome."""
        link.load.end()
        self._waiting.give()

    def lose_scheduler(self, reason: str) -> None:
        """Place no task until the scheduler has answered again, because its workers end themselves."""
        self._scheduler_error = self._scheduler_error or reason
        self._asked.set()

    def _loads(self) -> list[NodeLoad]:
        return [] if self._scheduler_error is not None else [link.load for link in self._links.values()]

    # nodes

    async def _watch(self) -> None:
        pinged_at = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._asked.wait()
            self._asked.clear()
            now = monotonic()
            for link in self.links:
                if now - link.heard_at > self._settings.node_timeout_s:
                    link.abort()
            if now - pinged_at >= _PING_S:
                pinged_at = now
                for link in self.links:
                    await link.ping()
            await self._update()
            self._check_nodes()

    def _check_nodes(self) -> None:
        """If there was no node for long, waiting tasks end with an error."""
        now = monotonic()
        if self._links:
            self._without_nodes_since = None
        elif self._without_nodes_since is None:
            self._without_nodes_since = now
        elif now - self._without_nodes_since >= self._settings.reconnect_timeout_s:
            reason = self._scheduler_error or "it has no worker that can be reached"
            self._waiting.refuse(SchedulerLost(self.address, f"{reason}, for {self._settings.reconnect_timeout_s:g} s"))

    async def _update(self) -> bool:
        """Ask the scheduler for its workers, and open links to new ones. Returns whether it has answered."""
        try:
            if self._client is None or self._client.status in ("closed", "closing"):
                await self._connect()
            scheduler: Any = self._client and self._client.scheduler
            async with asyncio.timeout(_ANSWER_S):
                workers: dict[str, int] = await scheduler.ncores()
                if self._scheduler_error is not None or not self._is_registered:
                    await self._register()
        except (OSError, AttributeError, TimeoutError) as error:
            if self._scheduler_error is None:
                _log.warning("the scheduler %s does not answer: %s", self.address, error)
            self._scheduler_error = _text_of(error)
            self._is_registered = False
            return False
        self._scheduler_error = None
        self._waiting.give()
        now = monotonic()
        for address in set(self.refused) - set(workers):
            del self.refused[address]
        for address in workers:
            is_known = address in self._links or address in self._opening or address in self.refused
            if not is_known and now >= self._retry_at.get(address, 0.0):
                self._opening[address] = asyncio.create_task(self._open_link(address))
        return True

    async def _connect(self) -> None:
        if not isinstance(self._given, str):
            if self._client is None or self._client.status != "running":
                raise OSError("the dask client is closed")
        else:
            if self._client is not None:
                await _closed(self._client)
                self._client = None
            make: Any = Client
            client = make(self._given, asynchronous=True, security=self._security, set_as_default=False, name="offloop")
            try:
                self._client = await client
            except BaseException:
                await _closed(client)
                raise
        await self._register()

    async def _register(self) -> None:
        """Have all present and future workers load the plugin. Does nothing if they have it."""
        client: Any = self._client
        await client.register_plugin(self._plugin)
        self._is_registered = True

    async def _open_link(self, address: str) -> None:
        try:
            client: Any = self._client
            link = await NodeLink.open(
                address, self._plugin.name, self._hello, client.connection_args, self._waiting.give, _OPEN_POOL_S
            )
        except NodeNotReady as error:
            _log.info("the node %s is not ready: %s", address, error)
            self._retry_at[address] = monotonic() + _RETRY_S
        except OffloopError as error:
            _log.warning("the node %s cannot be used: %s", address, error)
            self.refused[address] = error
        else:
            if self._is_closed:
                link.abort()
                return
            self._retry_at.pop(address, None)
            self._links[address] = link
            self._start(self._serve(link))
            self._waiting.give()
        finally:
            self._opening.pop(address, None)

    async def _serve(self, link: NodeLink) -> None:
        """Read a link until it ends, then settle its tasks."""
        reason = "the pool is closed"
        try:
            reason = await link.read()
        finally:
            del self._links[link.address]
            if self._is_closed:
                self._settle(link, PoolClosed)
        if link.tasks:
            make_error = await self._explain(link, reason)
            self._settle(link, make_error)
        self._asked.set()

    def _settle(self, link: NodeLink, make_error: Callable[[], Exception]) -> None:
        for task in tuple(link.tasks.values()):
            task.settle(make_error())

    async def _explain(self, link: NodeLink, reason: str) -> Callable[[], Exception]:
        """The error of a node's tasks when its link has ended: without the scheduler, its workers end, too."""
        if self._scheduler_error is not None:
            text = f"{self._scheduler_error}; then its worker {link.name} has left"
            return lambda: SchedulerLost(self.address, text)
        scheduler: Any = self._client and self._client.scheduler
        try:
            async with asyncio.timeout(_ANSWER_S):
                await scheduler.ncores()
        except (OSError, AttributeError, TimeoutError) as error:
            text = f"{_text_of(error)}; then its worker {link.name} has left"
            self.lose_scheduler(_text_of(error))
            return lambda: SchedulerLost(self.address, text)
        return lambda: NodeDied(link.name, link.address, reason)


async def _closed(client: Any) -> None:
    """Close a dask client in any state."""
    with suppress(Exception):
        await client.close()


def _text_of(error: BaseException) -> str:
    return str(error) or type(error).__name__
