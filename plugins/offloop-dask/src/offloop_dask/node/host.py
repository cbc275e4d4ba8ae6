"""Owner of a node's pool: opens it for the first client, closes it after the last, and accepts channels."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from importlib import import_module
from time import monotonic
from typing import Any

from distributed.comm.core import Comm
from distributed.core import Status

from offloop import OffloopError, Pool, PoolClosed
from offloop.functions.plugin import FunctionsPlugin
from offloop.plugins import Registry

from ..settings import NodeSettings
from ..storage import Stores
from ..wire.channel import Channel, ChannelClosed
from ..wire.failures import encode_error
from ..wire.messages import FromClient, Hello, Refused, Welcome
from ..wire.versions import differences, own_versions
from .operations import OperationDecoder
from .reports import measure
from .session import Session

__all__ = ["NodeHost"]

_log = logging.getLogger("offloop.node")

_REPORT_S = 0.25  # seconds between reports while the pool changes
_FULL_REPORT_S = 1.0  # seconds between reports with statistics


class NodeHost:
    """The pool of one dask worker, and the sessions of its clients."""

    def __init__(self, worker: Any, settings: NodeSettings) -> None:
        """Store the settings. The pool is opened by the first client."""
        self._worker = worker
        self._settings = settings
        self.stores = Stores(settings.storage_options)
        self.operations: OperationDecoder | None = None
        """Decodes the operations of requests. None until the pool is open."""
        self._sessions: dict[str, Session] = {}
        self._opening = asyncio.Lock()
        self._pool: Pool | None = None
        self._pool_owner: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._lingering: asyncio.TimerHandle | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None  # closes the pool when the last client has gone
        self._is_closed = False

    @property
    def name(self) -> str:
        """Name of the dask worker."""
        return str(self._worker.name)

    @property
    def pool(self) -> Pool:
        """The open pool.

        Raises:
            PoolClosed: the node is leaving the cluster.
        """
        if self._pool is None:
            raise PoolClosed(f"the pool of the node {self.name} is closed")
        return self._pool

    def find_session(self, session: str) -> Session | None:
        """The session of a client; None if it is gone."""
        return self._sessions.get(session)

    async def serve(self, comm: Comm) -> Status:
        """Serve a channel until its client is gone. It is the handler of the dask worker for our operation."""
        channel: Channel[FromClient] = Channel(comm, FromClient)
        try:
            with suppress(ChannelClosed):
                hello = await channel.receive()
                if isinstance(hello, Hello) and await self._admit(channel, hello):
                    await self._serve(channel, hello.session)
        finally:
            channel.abort()
            self._linger()
        return Status.dont_reply

    async def close(self) -> None:
        """End all sessions and close the pool."""
        self._is_closed = True
        for session in tuple(self._sessions.values()):
            session.abort()
        while self._sessions:
            await asyncio.gather(*(session.ended.wait() for session in tuple(self._sessions.values())))
        async with self._opening:
            await self._close_pool()
        if self._closing is not None:
            await asyncio.wait({self._closing})

    async def _admit(self, channel: Channel[FromClient], hello: Hello) -> bool:
        versions = own_versions(self._settings.plugin_names)
        error: bytes | None = None
        is_alike = not differences(hello.versions, versions)
        if is_alike:
            try:
                await self._open_pool()
            except Exception as caught:
                _log.warning("the pool of this node cannot be opened", exc_info=True)
                error = encode_error(caught)
        if error is not None or not is_alike:
            await channel.send(Refused(self.name, versions, error))
            await channel.close()
            return False
        report = measure(self.pool, with_statistics=False)
        await channel.send(Welcome(self.name, versions, report.concurrency, report.free_bytes))
        return True

    async def _serve(self, channel: Channel[FromClient], name: str) -> None:
        former = self._sessions.get(name)
        if former is not None:  # the client has lost its channel, and this node has not noticed yet
            former.abort()
            await former.ended.wait()
        session = self._sessions[name] = Session(self, channel)
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._reporting is None:
            self._reporting = asyncio.create_task(self._report())
        try:
            await session.serve()
        finally:
            del self._sessions[name]
            session.ended.set()

    def _linger(self) -> None:
        """Close the pool some time after its last client, also if that has gone before the pool was open."""
        if not self._sessions and not self._is_closed and self._lingering is None:
            loop = asyncio.get_running_loop()
            self._lingering = loop.call_later(self._settings.linger_s, self._end_lingering)

    def _end_lingering(self) -> None:
        self._lingering = None
        self._closing = asyncio.create_task(self._close_if_unused())

    async def _close_if_unused(self) -> None:
        async with self._opening:
            if not self._sessions:
                await self._close_pool()

    async def _open_pool(self) -> None:
        """Open the pool, if it is not open. Errors are those of `Pool`."""
        async with self._opening:
            if self._is_closed:
                raise PoolClosed(f"the node {self.name} is leaving the cluster")
            if self._pool is not None:
                return
            self._leave.clear()
            opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            # in a task of its own, because the cancel scopes of a pool end in the task that entered them
            self._pool_owner = asyncio.create_task(self._own_pool(opened))
            await asyncio.shield(opened)

    async def _own_pool(self, opened: asyncio.Future[None]) -> None:
        try:
            if self.operations is None:
                self.operations = OperationDecoder(await asyncio.to_thread(self._load_plugins), self.name)
            async with Pool(**self._settings.pool_options()) as pool:
                self._pool = pool
                opened.set_result(None)
                await self._leave.wait()
        except BaseException as error:
            if not opened.done():
                opened.set_exception(error if isinstance(error, Exception) else PoolClosed())
            elif isinstance(error, OffloopError):
                _log.warning("the pool of this node has failed", exc_info=True)
            else:
                raise
        finally:
            self._pool = None

    def _load_plugins(self) -> Registry:
        settings = self._settings
        for module in settings.modules:
            try:
                import_module(module)  # so that its functions are declared here, because the sandbox allows no later imports
            except Exception:  # raised by the module's own code
                _log.warning("the module %r of a client's functions cannot be imported", module, exc_info=True)
        return Registry(settings.plugins_with_functions(), {FunctionsPlugin.name: FunctionsPlugin(settings.functions)})

    async def _close_pool(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        owner, self._pool_owner = self._pool_owner, None
        if owner is not None:
            self._leave.set()
            await asyncio.wait({owner})

    async def _report(self) -> None:
        """Send the state of the pool to all clients, and drop the clients that are cut off."""
        last, full_at = None, 0.0
        while True:
            await asyncio.sleep(_REPORT_S)
            now = monotonic()
            for session in tuple(self._sessions.values()):
                if now - session.heard_at > self._settings.peer_timeout_s:
                    session.abort()
            is_full = now - full_at >= _FULL_REPORT_S
            if self._pool is None or not self._sessions:
                continue
            report = measure(self._pool, with_statistics=is_full)
            key = (report.running, report.waiting, report.free_bytes)
            if not is_full and key == last:
                continue
            last, full_at = key, now if is_full else full_at
            for session in tuple(self._sessions.values()):
                await session.send_if_open(report)
