"""One task from its caller's side: places it, sends it, retries it on another node, and stops it if the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from itertools import count
from time import monotonic
from typing import Any

from offloop import OffloopError, PoolClosed, Progress, QueueTimeout, TaskFailed, TaskTimeout, WorkerDied

from ..errors import NodeDied, SchedulerLost
from ..settings import ClusterSettings
from ..wire.channel import ChannelClosed
from ..wire.messages import TaskRequest
from .counts import OutcomeCounts
from .dispatch import DaskTasks, DispatchMode
from .nodes.membership import Membership
from .nodes.node_link import NodeLink
from .remote_task import Received, RemoteTask
from .requests import Prepared, with_id
from .transfer_limit import TransferLimit

__all__ = ["TaskCalls"]


class TaskCalls:
    """Runs the tasks of one pool."""

    def __init__(
        self, membership: Membership, settings: ClusterSettings, plugin: str, session: str, mode: DispatchMode
    ) -> None:
        self._membership = membership
        self._dask_tasks = DaskTasks(plugin, session, membership.lose_scheduler) if mode == "dask" else None
        self._limit = TransferLimit(settings.max_transfer_bytes)
        self._ids = count(1)
        self.counts = OutcomeCounts()
        self.is_draining = False
        """Whether new tasks are refused."""
        self.idle = asyncio.Event()
        """Set while there is no task."""
        self.idle.set()

    async def run(
        self,
        prepare: Callable[[], Awaitable[Prepared]],
        on_output: Callable[[Received], None],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Run one task. Returns after its last output.

        Args:
            prepare: returns an awaitable of the prepared task.
            on_output: called with each output.
            on_progress: called with the progress that the node reports.

        Raises:
            OffloopError: the task has failed.
        """
        if self.is_draining:
            raise PoolClosed
        counts = self.counts
        counts.begin()
        self.idle.clear()
        try:
            prepared = await prepare()
            await self._attempts(prepared, on_output, on_progress)
        except BaseException as error:
            counts.end(_outcome_of(error), error)
            raise
        else:
            counts.end("completed")
        finally:
            if not counts.unsettled:
                self.idle.set()

    async def close(self) -> None:
        """Wait until each task has its outcome, and end the work in the background."""
        await self.idle.wait()
        if self._dask_tasks is not None:
            await self._dask_tasks.close()

    async def _attempts(
        self,
        prepared: Prepared,
        on_output: Callable[[Received], None],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        request = prepared.request
        retries, avoided = request.retries, frozenset[str]()
        submitted = monotonic()
        has_output = False

        def deliver(received: Received) -> None:
            nonlocal has_output
            has_output = has_output or not received.is_preview
            on_output(received)

        while True:
            left = None
            if request.queue_timeout_s is not None:
                left = max(request.queue_timeout_s - (monotonic() - submitted), 0.0)
            if on_progress is not None and not self._membership.has_room:
                on_progress(Progress(0.0, "", "", None, "worker"))
            try:
                link = await self._membership.place(prepared.nbytes, request.priority, avoided, left)
            except QueueTimeout as error:
                raise _as_asked(error, request) from None
            try:
                attempt = with_id(request, next(self._ids), left, retries, wants_progress=on_progress is not None)
                task = RemoteTask(attempt, prepared.payloads, self._limit, deliver, on_progress)
                await self._attempt(link, task)
            except QueueTimeout as error:
                raise _as_asked(error, request) from None
            except (NodeDied, SchedulerLost):
                if not retries or has_output:
                    raise
                retries -= 1
                self.counts.retried += 1
                avoided |= {link.address}
            else:
                return
            finally:
                self._membership.release(link)

    async def _attempt(self, link: NodeLink, task: RemoteTask) -> None:
        """Run a task on a node. If the caller is cancelled, it returns when nothing of the task is left there."""
        link.add(task)
        self.counts.running += 1
        try:
            try:
                if self._dask_tasks is None:
                    await link.run(task)
                else:
                    self._dask_tasks.submit(self._membership.client, task, link.address)
            except ChannelClosed:
                pass  # the end of the link settles the task
            await task.wait()
        except BaseException:
            if not task.is_settled:
                await _uncancelled(link.cancel(task))
            raise
        finally:
            self.counts.running -= 1
            link.remove(task)
            if not task.is_settled:
                task.settle(PoolClosed())
            if self._dask_tasks is not None:
                self._dask_tasks.release(task)


def _as_asked(error: QueueTimeout, request: TaskRequest) -> QueueTimeout:
    """The error with the time that the caller has given, of which a node gets what is left."""
    return QueueTimeout(request.queue_timeout_s or 0.0, error.waiting_for, expected_s=error.expected_s)


async def _uncancelled(work: Coroutine[Any, Any, None]) -> None:
    """Wait for work to end, also if this task of the loop is cancelled again."""
    task = asyncio.create_task(work)
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({task})


_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (TaskTimeout, "timed_out"),
    (WorkerDied, "worker_died"),
    (TaskFailed, "failed"),
    (SchedulerLost, "worker_died"),
    (OffloopError, "refused"),
    (asyncio.CancelledError, "cancelled"),
)


def _outcome_of(error: BaseException) -> str:
    return next((name for kind, name in _KINDS if isinstance(error, kind)), "failed")
