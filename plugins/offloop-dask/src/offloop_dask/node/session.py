"""Session of one client on a node: its tasks by id. When its channel ends, all of its tasks are stopped."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic

import msgspec

from ..wire.channel import Channel, ChannelClosed
from ..wire.failures import encode_error
from ..wire.messages import Cancel, Credit, Data, Done, FromClient, Ping, Run, TaskRequest
from ..wire.transfers import TransferError
from .node_pool import NodePool
from .task_run import TaskRun

__all__ = ["Session"]

_log = logging.getLogger("offloop.node")

_MAX_CANCELLED = 100_000  # ids of cancelled tasks that have not arrived yet, which are remembered


class Session:
    """The tasks of one client."""

    def __init__(self, node: NodePool, channel: Channel[FromClient]) -> None:
        self._node = node
        self._channel = channel
        self._runs: dict[int, tuple[TaskRun, asyncio.Task[None]]] = {}
        self._cancelled: dict[int, None] = {}  # ids of tasks that were cancelled before they arrived, the oldest first
        self._is_ending = False
        self.heard_at = monotonic()
        """Time of the last message of the client, in seconds."""
        self.ended = asyncio.Event()
        """Set by the host when nothing of the session is left."""

    async def serve(self) -> None:
        """Handle messages until the channel ends, then stop all tasks. Returns when they have ended."""
        try:
            while True:
                message = await self._channel.receive()
                self.heard_at = monotonic()
                await self._handle(message)
        except ChannelClosed as error:
            _log.info("a client is gone: %s", error)
        except TransferError as error:
            _log.warning("a client has broken the protocol: %s", error)
        finally:
            self._is_ending = True
            self._channel.abort()
            tasks = [task for _, task in self._runs.values()]
            for run, task in tuple(self._runs.values()):
                _stop(run, task)
            if tasks:
                await asyncio.wait(tasks)

    def abort(self) -> None:
        """Close the channel at once; `serve` ends."""
        self._channel.abort()

    async def send(self, message: msgspec.Struct) -> None:
        """Send a message to the client.

        Raises:
            ChannelClosed: it is gone.
        """
        await self._channel.send(message)

    async def send_if_open(self, message: msgspec.Struct) -> None:
        """Send a message, unless the client is gone."""
        with suppress(ChannelClosed):
            await self._channel.send(message)

    async def carry_out(self, request: TaskRequest) -> None:
        """Carry out a task; return when its client has its outcome, or is gone."""
        task = self._start(request)
        if task is not None:
            await asyncio.wait({task})

    def _start(self, request: TaskRequest) -> asyncio.Task[None] | None:
        """Start a task. None: it was cancelled before, or came twice."""
        task_id = request.task_id
        if self._is_ending or task_id in self._runs:
            return None
        if task_id in self._cancelled:
            del self._cancelled[task_id]
            return None
        run = TaskRun(self._node, request, self.send)
        task = asyncio.create_task(self._run(run, task_id))
        self._runs[task_id] = (run, task)
        return task

    async def _run(self, run: TaskRun, task_id: int) -> None:
        done = Done(task_id)
        try:
            await run.run()
        except asyncio.CancelledError:
            done = Done(task_id, is_cancelled=True)
        except ChannelClosed:
            return
        except Exception as error:
            done = Done(task_id, encode_error(error))
        finally:
            run.release()
            del self._runs[task_id]
        await self.send_if_open(done)

    async def _handle(self, message: FromClient) -> None:
        match message:
            case Run(request):
                self._start(request)
            case Cancel(task_id):
                await self._cancel(task_id)
            case Data() | Credit():
                found = self._runs.get(message.task_id)
                if found is not None:  # otherwise the task has ended meanwhile
                    await found[0].transfer(message)
            case Ping():
                pass
            case _:
                self.abort()

    async def _cancel(self, task_id: int) -> None:
        found = self._runs.get(task_id)
        if found is not None:
            _stop(*found)
            return
        self._cancelled[task_id] = None
        if len(self._cancelled) > _MAX_CANCELLED:
            del self._cancelled[next(iter(self._cancelled))]
        await self.send_if_open(Done(task_id, is_cancelled=True))


def _stop(run: TaskRun, task: asyncio.Task[None]) -> None:
    """Cancel a task. One that has not taken its first step sees to it then, because asyncio would never start it."""
    run.is_cancelled = True
    if run.has_begun:
        task.cancel()
