"""One task on a node, from this client's side: sends its sources, receives its outputs, and has exactly one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from offloop import InternalError, OffloopError, PoolClosed, Progress

from ..errors import NodeDied
from ..wire.channel import ChannelClosed
from ..wire.failures import decode_error
from ..wire.messages import Credit, Data, Done, Output, Progressed, ResultHead, TaskRequest
from ..wire.transfers import Incoming, Outgoing, Send
from .transfer_limit import TransferLimit

__all__ = ["Received", "RemoteTask"]


class Received(NamedTuple):
    """One output of a task."""

    name: str  # name of its pipeline; "": the only one
    is_preview: bool
    head: ResultHead | None  # None: the pipeline has failed
    data: memoryview
    error: OffloopError | None
    node: str  # name of the node


class RemoteTask:
    """One attempt of a task on one node."""

    def __init__(
        self,
        request: TaskRequest,
        payloads: Sequence[memoryview],
        limit: TransferLimit,
        on_output: Callable[[Received], None],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        """Prepare the task.

        Args:
            request: what the node gets.
            payloads: bytes of the sources that are sent; empty for those that the node fetches.
            limit: bound of the results that are under way.
            on_output: called with each output as soon as it is complete.
            on_progress: called with the node's reports.
        """
        self.request = request
        self._payloads = payloads
        self._limit = limit
        self._on_output = on_output
        self._on_progress = on_progress
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outgoing: dict[int, Outgoing] = {}  # by index of the source
        self._incoming: dict[int, Incoming] = {}  # by number of the output
        self._downloads: set[asyncio.Task[None]] = set()
        self._done: Done | None = None
        self.node = ""
        """Name of its node."""
        self.address = ""
        """Address of its node."""
        self._send: Send | None = None

    @property
    def task_id(self) -> int:
        """Its id, unique in a pool."""
        return self.request.task_id

    @property
    def is_settled(self) -> bool:
        """Whether it has its outcome."""
        return self._outcome.done()

    def attach(self, node: str, address: str, send: Send) -> None:
        """It was given to a node. `send`: sends a message to it."""
        self.node, self.address, self._send = node, address, send
        for index, payload in enumerate(self._payloads):
            if payload.nbytes:
                self._outgoing[index] = Outgoing(self.task_id, index, payload, send)

    async def wait(self) -> None:
        """Wait for the outcome. Can be cancelled and called again.

        Raises:
            OffloopError: it is an error.
        """
        await asyncio.shield(self._outcome)

    async def ended(self) -> None:
        """Wait until it has an outcome, of any kind."""
        await asyncio.wait({self._outcome})

    def settle(self, error: BaseException | None) -> None:
        """Set the outcome, unless there is one already. Transfers end."""
        if self._outcome.done():
            return
        if error is None:
            self._outcome.set_result(None)
        else:
            self._outcome.set_exception(error)
            self._outcome.exception()  # it is no mistake if a cancelled caller does not ask for it
        for download in self._downloads:
            download.cancel()
        for outgoing in self._outgoing.values():
            outgoing.release()
        self._outgoing.clear()
        self._payloads = ()

    async def handle(self, message: Output | Data | Credit | Progressed | Done) -> None:
        """Take a message of the node.

        Raises:
            TransferError, ChannelClosed: the channel must be closed.
        """
        if self.is_settled:
            return
        match message:
            case Output():
                self._take(message)
            case Data():
                incoming = self._incoming.get(message.number)
                if incoming is not None:
                    await incoming.write(message)
            case Credit():
                outgoing = self._outgoing.get(message.number)
                if outgoing is not None:
                    await outgoing.grant(message.upto)
            case Progressed():
                if self._on_progress is not None:
                    self._on_progress(_progress_of(message))
            case Done():
                self._done = message
                self._finish()

    def _take(self, output: Output) -> None:
        head = output.head
        if head is None:
            error = InternalError("a node has sent neither a result nor an error") if output.error is None else None
            error = error or decode_error(output.error or b"")
            self._on_output(Received(output.name, output.is_preview, None, memoryview(b""), error, self.node))
        elif output.data is not None or head.url is not None:
            self._deliver(output, memoryview(output.data or b""))
        else:
            download = asyncio.create_task(self._download(output, head))
            self._downloads.add(download)
            download.add_done_callback(self._end_download)

    async def _download(self, output: Output, head: ResultHead) -> None:
        assert self._send is not None, "it was attached"
        async with self._limit.room(head.nbytes):
            memory = memoryview(bytearray(head.nbytes))
            incoming = self._incoming[output.number] = Incoming(self.task_id, output.number, memory, self._send)
            try:
                await incoming.wait()
            finally:
                del self._incoming[output.number]
        if not self.is_settled:
            self._deliver(output, memory)

    def _deliver(self, output: Output, data: memoryview) -> None:
        self._on_output(Received(output.name, output.is_preview, output.head, data, None, self.node))

    def _end_download(self, download: asyncio.Task[None]) -> None:
        self._downloads.discard(download)
        if download.cancelled():
            return
        error = download.exception()
        if error is not None and not isinstance(error, ChannelClosed):  # a closed channel settles the task
            self.settle(error)
        self._finish()

    def _finish(self) -> None:
        """Settle the task, if it has ended and all of its outputs are here."""
        done = self._done
        if done is None or self._downloads:
            return
        if done.is_cancelled:
            self.settle(NodeDied(self.node, self.address, "the node has stopped the task"))
        elif done.error is None:
            self.settle(None)
        else:
            error = decode_error(done.error)
            if isinstance(error, PoolClosed):
                error = NodeDied(self.node, self.address, "the node is leaving the cluster")
            self.settle(error)


def _progress_of(message: Progressed) -> Progress:
    return Progress(message.fraction, message.stage, message.operation, message.eta_s, message.waits_for, message.cost_s)
