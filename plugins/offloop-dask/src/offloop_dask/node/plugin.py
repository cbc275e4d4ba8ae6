"""The dask worker plugin of a node, and the dask task that brings one request to it."""

from __future__ import annotations

import asyncio
from time import time
from typing import Any

import msgspec
from distributed import Worker, get_worker
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.worker_state_machine import SecedeEvent

from ..settings import NodeSettings
from ..wire.messages import TaskRequest
from .host import NodeHost

__all__ = ["OffloopPlugin", "run_on_node"]

_request_decoder = msgspec.msgpack.Decoder(TaskRequest)


class OffloopPlugin(WorkerPlugin):
    """Serves offloop on one dask worker: one pool, which the first client opens.

    It is sent as the encoding of its settings, so both ends need no more than the same offloop.
    """

    idempotent = True  # clients with the same settings share the node's pool

    def __init__(self, encoded: bytes) -> None:
        """Take encoded `NodeSettings`."""
        self._encoded = encoded
        self.name = NodeSettings.name_of(encoded)
        self.host: NodeHost | None = None
        self._loop_end: asyncio.Task[None] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return OffloopPlugin, (self._encoded,)

    async def setup(self, worker: Worker) -> None:
        """Accept channels of clients."""
        self.host = NodeHost(worker, NodeSettings.decode(self._encoded))
        untyped: Any = worker
        untyped.handlers[self.name] = self.host.serve
        self._loop_end = asyncio.create_task(_end_with_the_loop(worker))

    async def teardown(self, worker: Worker) -> None:
        """End all tasks, and close the pool."""
        untyped: Any = worker
        untyped.handlers.pop(self.name, None)
        if self.host is not None:
            await self.host.close()


async def _end_with_the_loop(worker: Any) -> None:
    """Wait until the worker is closed. If the loop cancels its tasks at its end before, let the worker count as closed.

    A worker whose scheduler is gone closes itself. If it gets SIGTERM meanwhile, the loop cancels that, and another task of the
    worker waits for the end of the closing, which never comes: the process would not end.
    """
    try:
        await worker.finished()
    finally:
        finished: asyncio.Event | None = getattr(worker, "_event_finished", None)
        if finished is not None and worker.status is Status.closing:
            finished.set()


async def run_on_node(plugin: str, session: str, request: bytes, key: str) -> None:
    """The dask task of one request: returns when the node has answered the client over its channel.

    The task leaves its slot of the dask worker at once, because its work is done in processes of the node's pool.
    """
    worker: Any = get_worker()
    worker.handle_stimulus(SecedeEvent(key=key, compute_duration=0.0, stimulus_id=f"secede-{time()}"))
    host: NodeHost | None = getattr(worker.plugins.get(plugin), "host", None)
    found = None if host is None else host.find_session(session)
    if found is not None:  # otherwise the client is gone
        await found.carry_out(_request_decoder.decode(request))
