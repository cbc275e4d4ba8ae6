"""Link to one node: its channel, its tasks, its reports."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

import distributed.comm.core as comm_core
import msgspec
from distributed.comm.core import CommClosedError

from offloop import Statistics

from ...errors import VersionMismatch
from ...wire.channel import Channel, ChannelClosed
from ...wire.failures import decode_error
from ...wire.messages import (
    Cancel,
    Credit,
    Data,
    Done,
    FromNode,
    Hello,
    NodeReport,
    Output,
    Ping,
    Progressed,
    Refused,
    Run,
    Welcome,
)
from ...wire.transfers import TransferError
from ...wire.versions import differences
from ..remote_task import RemoteTask
from .placement import NodeLoad

__all__ = ["NodeLink", "NodeNotReady"]

_log = logging.getLogger("offloop.cluster")

_CONNECT_TIMEOUT_S = 5.0


class NodeNotReady(Exception):
    """The node cannot be reached yet, or its plugin is not set up yet."""


class NodeLink:
    """A channel to one node, and the tasks of this client there."""

    def __init__(self, address: str, channel: Channel[FromNode], welcome: Welcome, changed: Callable[[], None]) -> None:
        self.address = address
        self.name = welcome.node
        self.versions: Mapping[str, str] = welcome.versions
        self.load = NodeLoad(address, max(welcome.concurrency, 1), welcome.free_bytes)
        self.tasks: dict[int, RemoteTask] = {}
        self.statistics: Statistics | None = None
        """Last statistics that the node has sent."""
        self.heard_at = monotonic()
        self._channel = channel
        self._changed = changed

    @classmethod
    async def open(
        cls,
        address: str,
        plugin: str,
        hello: Hello,
        connection_args: Mapping[str, Any],
        changed: Callable[[], None],
        open_timeout_s: float,
    ) -> NodeLink:
        """Connect to a node, and have it open its pool.

        Args:
            address: address of the dask worker.
            plugin: name of its plugin.
            hello: versions and session of this client.
            connection_args: TLS of the dask client.
            changed: called when the node has sent a report.
            open_timeout_s: seconds that the node's pool may take to open.

        Raises:
            NodeNotReady: try again later.
            VersionMismatch: its versions differ.
            OffloopError: its pool cannot be opened.
        """
        try:
            untyped: Any = comm_core
            comm: Any = await untyped.connect(address, timeout=_CONNECT_TIMEOUT_S, deserialize=False, **connection_args)
        except OSError as error:
            raise NodeNotReady(str(error)) from None
        try:
            async with asyncio.timeout(open_timeout_s):
                # a worker without our plugin answers this with None
                await comm.write({"op": plugin, "reply": True})
                channel: Channel[FromNode] = Channel(comm, FromNode)
                await channel.send(hello)
                answer = await channel.receive()
        except (CommClosedError, OSError, ChannelClosed, TimeoutError) as error:
            comm.abort()
            raise NodeNotReady(str(error) or "it does not answer") from None
        except BaseException:
            comm.abort()
            raise
        if isinstance(answer, Welcome):
            return cls(address, channel, answer, changed)
        channel.abort()
        if not isinstance(answer, Refused):
            raise NodeNotReady("it has sent something else than an answer")
        if answer.error is not None:
            raise decode_error(answer.error)
        raise VersionMismatch(answer.node, differences(hello.versions, answer.versions))

    async def read(self) -> str:
        """Take messages until the channel is closed. Returns the reason."""
        try:
            while True:
                message = await self._channel.receive()
                self.heard_at = monotonic()
                await self._handle(message)
        except (ChannelClosed, TransferError) as error:
            return str(error)
        finally:
            self._channel.abort()

    def abort(self) -> None:
        """Close the channel at once; `read` ends."""
        self._channel.abort()

    async def close(self) -> None:
        """Send what is queued, and close the channel."""
        await self._channel.close()

    async def send(self, message: msgspec.Struct) -> None:
        """Send a message.

        Raises:
            ChannelClosed: the node is gone.
        """
        await self._channel.send(message)

    async def ping(self) -> None:
        """Tell the node that this client is there."""
        with suppress(ChannelClosed):
            await self._channel.send(Ping())

    def add(self, task: RemoteTask) -> None:
        """A task is given to this node: its messages are handled from now on."""
        self.tasks[task.task_id] = task
        task.attach(self.name, self.address, self._channel.send)

    def remove(self, task: RemoteTask) -> None:
        """A task is settled."""
        self.tasks.pop(task.task_id, None)

    async def run(self, task: RemoteTask) -> None:
        """Send a task over the channel, not through the scheduler.

        Raises:
            ChannelClosed: the node is gone.
        """
        await self._channel.send(Run(task.request))

    async def cancel(self, task: RemoteTask) -> None:
        """Stop a task; return when nothing of it is left on the node, or the node is gone."""
        try:
            await self._channel.send(Cancel(task.task_id))
        except ChannelClosed:
            return
        await task.ended()

    async def _handle(self, message: FromNode) -> None:
        match message:
            case NodeReport():
                self.load.report(message.running, message.waiting, message.free_bytes, message.concurrency)
                if message.statistics is not None:
                    self.statistics = _statistics_of(message.statistics)
                self._changed()
            case Output() | Data() | Credit() | Progressed() | Done():
                task = self.tasks.get(message.task_id)
                if task is not None:  # otherwise it has its outcome already
                    await task.handle(message)
            case _:
                self.abort()


def _statistics_of(encoded: bytes) -> Statistics | None:
    try:
        return msgspec.msgpack.decode(encoded, type=Statistics)
    except msgspec.DecodeError as error:
        _log.warning("the statistics of a node cannot be read: %s", error)
        return None
