"""Brings a request to its node: as a dask task that is bound to the node, or directly over the channel.

As a dask task, it is seen in dask's dashboard, and costs the scheduler about a millisecond. Only the request passes through it,
never a source or a result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import distributed
import msgspec
from distributed import Client

from offloop import InternalError

from ..errors import SchedulerLost
from ..node.plugin import run_on_node
from ..wire.messages import TaskRequest
from .remote_task import RemoteTask

__all__ = ["DispatchMode", "through_scheduler"]

DispatchMode: TypeAlias = Literal["dask", "direct"]


def _kind_of(request: TaskRequest) -> str:
    if request.call is not None:
        return request.call.function.rpartition(":")[2].replace(".", "_")
    return "probe" if request.head_nbytes else "run_many" if request.is_named else "run"


def through_scheduler(
    client: Client, plugin: str, session: str, task: RemoteTask, address: str, on_loss: Callable[[str], None]
) -> asyncio.Task[None]:
    """Submit the dask task of a request, and watch it until the task is settled. Returns the task of the loop that watches.

    Args:
        client: an asynchronous client.
        plugin, session: names of the plugin and the session on the node.
        task: the task.
        address: address of its node.
        on_loss: called with the reason if the scheduler has lost the dask task.
    """
    key = f"offloop_{_kind_of(task.request)}-{session}-{task.task_id}"
    untyped: Any = client
    future = untyped.submit(
        run_on_node,
        plugin,
        session,
        msgspec.msgpack.encode(task.request),
        key,
        key=key,
        workers=[address],
        allow_other_workers=False,  # so work stealing leaves it where it is
        retries=0,
        pure=False,
    )
    return asyncio.create_task(_watch(client, future, task, on_loss))


async def _watch(client: Client, future: Any, task: RemoteTask, on_loss: Callable[[str], None]) -> None:
    """Release the dask task when the outcome is there. If it ends without one, that is the outcome."""
    watching = asyncio.ensure_future(_end_of(client, future))
    outcome = asyncio.ensure_future(task.ended())
    try:
        await asyncio.wait({watching, outcome}, return_when=asyncio.FIRST_COMPLETED)
        if not task.is_settled and future.status != "finished":
            error = await _error_of(client, future)
            if isinstance(error, SchedulerLost) and client.status != "running":
                on_loss(error.reason)
            task.settle(error)
        await outcome  # after "finished", the answer is on its way; if the node dies instead, that settles the task
    finally:
        watching.cancel()
        outcome.cancel()
        future.release()


async def _end_of(client: Client, future: Any) -> None:
    untyped: Any = distributed
    try:
        with client.as_current():  # because the default client may be another one, or none
            ended = untyped.wait(future)
        await ended
    except asyncio.CancelledError:
        if future.status not in ("cancelled", "lost"):
            raise  # this task of the loop was cancelled, not the dask task


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
