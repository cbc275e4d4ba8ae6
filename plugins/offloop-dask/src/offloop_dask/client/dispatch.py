"""Brings a request to its node: as a dask task that is bound to the node, or directly over the channel.

As a dask task, it is seen in dask's dashboard, and costs the scheduler about a millisecond. Only the request passes through it,
never a source or a result. The outcome comes over the channel, so no dask future is awaited: one task of the loop looks at
all of them twice a second, for dask tasks that ended without an outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec
from distributed import Client

from offloop import InternalError

from ..errors import SchedulerLost
from ..node.plugin import run_on_node
from ..wire.messages import TaskRequest
from .remote_task import RemoteTask

__all__ = ["DaskTasks", "DispatchMode"]

DispatchMode: TypeAlias = Literal["dask", "direct"]

_LOOK_S = 0.5  # seconds between two looks at the dask tasks


class _Submitted(NamedTuple):
    task: RemoteTask
    client: Client
    future: Any


class DaskTasks:
    """The dask tasks of one pool."""

    def __init__(self, plugin: str, session: str, on_loss: Callable[[str], None]) -> None:
        """Make none yet.

        Args:
            plugin, session: names of the plugin and the session on the nodes.
            on_loss: called with the reason if the scheduler has lost a dask task, and the dask client has lost the scheduler.
        """
        self._plugin = plugin
        self._session = session
        self._on_loss = on_loss
        self._submitted: dict[int, _Submitted] = {}  # by task id
        self._watching: asyncio.Task[None] | None = None

    def submit(self, client: Client, task: RemoteTask, address: str) -> None:
        """Submit the dask task of a request. `release` follows.

        Args:
            client: an asynchronous client.
            task: the task.
            address: address of its node.
        """
        key = f"offloop_{_kind_of(task.request)}-{self._session}-{task.task_id}"
        untyped: Any = client
        future = untyped.submit(
            run_on_node,
            self._plugin,
            self._session,
            msgspec.msgpack.encode(task.request),
            key,
            key=key,
            workers=[address],
            allow_other_workers=False,  # so work stealing leaves it where it is
            retries=0,
            pure=False,
        )
        self._submitted[task.task_id] = _Submitted(task, client, future)
        if self._watching is None:
            self._watching = asyncio.create_task(self._watch())

    def release(self, task: RemoteTask) -> None:
        """The task has its outcome: the scheduler may forget its dask task."""
        submitted = self._submitted.pop(task.task_id, None)
        if submitted is not None:
            submitted.future.release()

    async def close(self) -> None:
        """Look at nothing more. All tasks have their outcomes."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def _watch(self) -> None:
        """Settle the tasks whose dask task has ended without an outcome. After "finished", the outcome is on its way."""
        while self._submitted:
            await asyncio.sleep(_LOOK_S)
            for task, client, future in tuple(self._submitted.values()):
                if task.is_settled or future.status in ("pending", "finished"):
                    continue
                error = await _error_of(client, future)
                if isinstance(error, SchedulerLost) and client.status != "running":
                    self._on_loss(error.reason)
                task.settle(error)
        self._watching = None


def _kind_of(request: TaskRequest) -> str:
    if request.call is not None:
        return request.call.function.rpartition(":")[2].replace(".", "_")
    return "probe" if request.head_nbytes else "run_many" if request.is_named else "run"


async def _error_of(client: Client, future: Any) -> Exception:
    scheduler: Any = client.scheduler
    address = str(getattr(scheduler, "address", "")) or "of the cluster"
    if future.status == "error":
        try:
            error = await future.exception()
        except (Exception, asyncio.CancelledError) as caught:
            error = caught
        return InternalError(f"the dask task has failed: {type(error).__name__}: {error}")
    return SchedulerLost(address, f"the dask task is {future.status}")
