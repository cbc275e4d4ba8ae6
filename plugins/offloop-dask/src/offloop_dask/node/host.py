"""Host of the clients of a node: accepts their channels, reports the state of the pool, closes it after the last one."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic
from typing import Any

from distributed.comm.core import Comm
from distributed.core import Status

from ..settings import NodeSettings
from ..wire.channel import Channel, ChannelClosed
from ..wire.failures import encode_error
from ..wire.messages import FromClient, Hello, Refused, Welcome
from ..wire.versions import differences, own_versions
from .node_pool import NodePool
from .reports import measure
from .session import Session

__all__ = ["NodeHost"]

_log = logging.getLogger("offloop.node")

_REPORT_S = 0.25  # seconds between reports while the pool changes
_FULL_REPORT_S = 1.0  # seconds between reports with statistics


class NodeHost:
    """The sessions of the clients of one dask worker."""

    def __init__(self, worker: Any, settings: NodeSettings) -> None:
        """Store the settings. The pool is opened by the first client."""
        self._settings = settings
        self._node = NodePool(str(worker.name), settings)
        self._sessions: dict[str, Session] = {}
        self._lingering: asyncio.TimerHandle | None = None
        self._reporting: asyncio.Task[None] | None = None  # while there are sessions
        self._closing: asyncio.Task[None] | None = None  # closes the pool when the last client has gone

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
        self._node.leave()
        for session in tuple(self._sessions.values()):
            session.abort()
        while self._sessions:
            await asyncio.gather(*(session.ended.wait() for session in tuple(self._sessions.values())))
        self._end_lingering()
        await self._node.close()
        if self._closing is not None:
            await asyncio.wait({self._closing})

    async def _admit(self, channel: Channel[FromClient], hello: Hello) -> bool:
        versions = own_versions(self._settings.plugin_names)
        error: bytes | None = None
        is_alike = not differences(hello.versions, versions)
        if is_alike:
            try:
                await self._node.open()
            except Exception as caught:
                _log.warning("the pool of this node cannot be opened", exc_info=True)
                error = encode_error(caught)
        if error is not None or not is_alike:
            await channel.send(Refused(self._node.name, versions, error))
            await channel.close()
            return False
        report = measure(self._node.pool, with_statistics=False)
        await channel.send(Welcome(self._node.name, versions, report.concurrency, report.free_bytes))
        return True

    async def _serve(self, channel: Channel[FromClient], name: str) -> None:
        former = self._sessions.get(name)
        if former is not None:  # the client has lost its channel, and this node has not noticed yet
            former.abort()
            await former.ended.wait()
        session = self._sessions[name] = Session(self._node, channel)
        self._end_lingering()
        if self._reporting is None:
            self._reporting = asyncio.create_task(self._report())
        try:
            await session.serve()
        finally:
            del self._sessions[name]
            session.ended.set()
            if not self._sessions:
                self._end_reporting()

    def _linger(self) -> None:
        """Close the pool some time after its last client, also if that has gone before the pool was open."""
        if not self._sessions and not self._node.is_leaving and self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(self._settings.linger_s, self._close_if_unused)

    def _end_lingering(self) -> None:
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None

    def _close_if_unused(self) -> None:
        self._lingering = None
        self._closing = asyncio.create_task(self._node.close_unless(lambda: bool(self._sessions)))

    def _end_reporting(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None

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
            if not self._node.is_open:
                continue
            report = measure(self._node.pool, with_statistics=is_full)
            key = (report.running, report.waiting, report.free_bytes)
            if not is_full and key == last:
                continue
            last, full_at = key, now if is_full else full_at
            for session in tuple(self._sessions.values()):
                await session.send_if_open(report)
