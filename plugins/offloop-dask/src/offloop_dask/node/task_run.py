"""One task on a node: gets its sources, gives it to the node's pool, and sends or writes its results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import msgspec

from offloop import Buffer, InvalidTask, Operation, Outcome, QueueTimeout, Result
from offloop.functions.plugin import Call

from ..storage import file_of, make_directory_of
from ..wire.failures import encode_error
from ..wire.messages import (
    CHUNK_NBYTES,
    INLINE_NBYTES,
    Credit,
    Data,
    Fetched,
    Output,
    PipelineRequest,
    ResultHead,
    Sent,
    TaskRequest,
)
from ..wire.transfers import Incoming, Outgoing
from .node_pool import NodePool
from .progress_sender import ProgressSender

__all__ = ["TaskRun"]

Send = Callable[[msgspec.Struct], Awaitable[None]]


class ReceivedArray(bytearray):
    """Samples that a client has sent: memory with an array interface."""

    def __init__(self, nbytes: int, shape: tuple[int, ...], dtype: str) -> None:
        super().__init__(nbytes)
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype}


class TaskRun:
    """One task from its request to its last message but `Done`, which the session sends."""

    def __init__(self, node: NodePool, request: TaskRequest, send: Send) -> None:
        self._node = node
        self._request = request
        self._send = send
        self._incoming: dict[int, Incoming] = {}  # by index of the source
        self._outgoing: dict[int, Outgoing] = {}  # by number of the output
        self._outputs = 0
        queue_timeout_s = request.queue_timeout_s
        self._queue_deadline = None if queue_timeout_s is None else monotonic() + queue_timeout_s
        self._progress = ProgressSender(request.task_id, send)
        self.has_begun = False
        """Whether its task of the loop has taken its first step."""
        self.is_cancelled = False
        """Whether it must not go on."""

    async def run(self) -> None:
        """Carry the task out. Returns when all results were sent or written.

        Raises:
            OffloopError: the task has failed.
            ChannelClosed: the client is gone.
        """
        self.has_begun = True
        if self.is_cancelled:
            raise asyncio.CancelledError
        request = self._request
        if request.head_nbytes:
            await self._send_head(request.head_nbytes)
        else:
            sources = [await self._receive(index, spec) for index, spec in enumerate(request.sources)]
            if request.call is not None:
                await self._call(sources)
            elif request.is_named:
                await self._run_many(sources)
            else:
                await self._run(sources)
            del sources
        for outgoing in tuple(self._outgoing.values()):
            await outgoing.complete.wait()

    async def transfer(self, message: Data | Credit) -> None:
        """Take a piece of a source, or send pieces of a result.

        Raises:
            TransferError: it was not granted, or there is no such source or result.
            ChannelClosed: the client is gone.
        """
        if isinstance(message, Data):
            incoming = self._incoming.get(message.number)
            if incoming is not None:
                await incoming.write(message)
        else:
            outgoing = self._outgoing.get(message.number)
            if outgoing is not None:
                await outgoing.grant(message.upto)

    def release(self) -> None:
        """Refer to no memory any more."""
        for outgoing in self._outgoing.values():
            outgoing.release()
        self._outgoing.clear()
        self._incoming.clear()
        self._progress.close()

    # sources

    async def _receive(self, index: int, spec: Fetched | Sent) -> Any:
        if isinstance(spec, Fetched):
            return await self._fetch(spec.url)
        if spec.shape is not None and spec.dtype is not None:
            array = ReceivedArray(spec.nbytes, spec.shape, spec.dtype)
            await self._receive_into(index, memoryview(array))
            return array
        if not spec.nbytes:
            return b""
        buffer = await self._allocate(spec.nbytes)
        await self._receive_into(index, buffer.view)
        return buffer

    async def _receive_into(self, index: int, memory: memoryview) -> None:
        incoming = self._incoming[index] = Incoming(self._request.task_id, index, memory, self._send)
        try:
            await incoming.wait()
        finally:
            del self._incoming[index]

    async def _fetch(self, url: str) -> Any:
        path = file_of(url)
        if path is not None:
            return path
        found = await self._node.stores.read(url)
        if found.nbytes <= CHUNK_NBYTES:
            return await found.all_bytes()
        buffer = await self._allocate(found.nbytes)
        offset = 0
        async for chunk in found.chunks():
            buffer.view[offset : offset + len(chunk)] = chunk
            offset += len(chunk)
        return buffer

    async def _allocate(self, nbytes: int) -> Buffer:
        """Shared memory for a source. The wait for it counts as waiting of the task.

        Raises:
            QueueTimeout: there was none within `queue_timeout`.
            MemoryLimitExceeded: the pool can never have so much.
        """
        try:
            async with asyncio.timeout_at(self._queue_deadline):
                return await self._node.pool.buffer(nbytes).ready()
        except TimeoutError:
            raise QueueTimeout(self._request.queue_timeout_s or 0.0, "memory") from None

    async def _send_head(self, nbytes: int) -> None:
        (source,) = self._request.sources
        assert isinstance(source, Fetched), "heads of other sources are read by the client"
        data = await self._node.stores.read_head(source.url, nbytes)
        head = ResultHead(len(data), {}, 0.0, 0.0, 0.0)
        await self._send_output(Output(self._request.task_id, 0, head=head), memoryview(data))

    # work

    @property
    def _options(self) -> dict[str, Any]:
        request = self._request
        return {
            "timeout": request.timeout_s,
            "queue_timeout": self._queue_left_s,
            "retries": request.retries,
            "priority": request.priority,
            "tenant": request.tenant,
            "labels": request.labels,
            "memory_limit": request.memory_limit_bytes,
            "on_progress": self._progress.update if request.wants_progress else None,
        }

    @property
    def _queue_left_s(self) -> float | None:
        """Seconds that the task may wait from now on; None: no limit."""
        return None if self._queue_deadline is None else max(self._queue_deadline - monotonic(), 0.0)

    async def _run(self, sources: Sequence[Any]) -> None:
        request = self._request
        (pipeline,) = request.pipelines
        path = None if pipeline.to is None else file_of(pipeline.to)
        if path is not None:
            await asyncio.to_thread(make_directory_of, path)
        result = await self._node.pool.run(
            sources[0],
            self._operations(pipeline, sources),
            to=path,
            on_preview=self._send_preview if request.wants_previews else None,
            coalesce=request.coalesce,
            **self._options,
        )
        await self._emit(pipeline, result)

    async def _run_many(self, sources: Sequence[Any]) -> None:
        pipelines = {pipeline.name: pipeline for pipeline in self._request.pipelines}
        operations = {name: self._operations(pipeline, sources) for name, pipeline in pipelines.items()}
        async with self._node.pool.run_many(sources[0], operations, **self._options) as outcomes:
            async for name, outcome in outcomes:
                await self._emit_outcome(pipelines[name], outcome)

    async def _call(self, sources: Sequence[Any]) -> None:
        request = self._request
        assert request.call is not None, "it was asked for before"
        call = Call(request.call.function, request.call.arguments, request.call.memory_bytes)
        result = await self._node.pool.run_call(call, sources, **self._options)
        await self._emit(PipelineRequest("", []), result)

    def _operations(self, pipeline: PipelineRequest, sources: Sequence[Any]) -> list[Operation]:
        return self._node.operations.decode(pipeline.stages, sources)

    # results

    async def _emit_outcome(self, pipeline: PipelineRequest, outcome: Outcome[Any]) -> None:
        if outcome.result is None:
            assert outcome.error is not None, "an outcome has a result or an error"
            await self._send_failure(pipeline.name, outcome.error)
        elif not outcome.preview:
            try:
                await self._emit(pipeline, outcome.result)
            except InvalidTask as error:
                await self._send_failure(pipeline.name, error)
        elif self._request.wants_previews:
            await self._send_output(self._output(pipeline.name, outcome.result, is_preview=True), outcome.result.data)

    async def _send_failure(self, name: str, error: BaseException) -> None:
        await self._send(Output(self._request.task_id, self._next_number(), name, error=encode_error(error)))

    async def _emit(self, pipeline: PipelineRequest, result: Result) -> None:
        """Send a result to the client, or write it to its URL."""
        output = self._output(pipeline.name, result, url=pipeline.to)
        if pipeline.to is None:
            await self._send_output(output, result.data)
            return
        if result.path is None:
            await self._node.stores.write(pipeline.to, result.data, result.info.get("media_type"))
        await self._send(output)

    async def _send_preview(self, result: Result) -> None:
        await self._send_output(self._output("", result, is_preview=True), result.data)

    async def _send_output(self, output: Output, data: memoryview) -> None:
        """Send a result: at once if it is short, else when the client grants it."""
        if data.nbytes <= INLINE_NBYTES:
            await self._send(msgspec.structs.replace(output, data=bytes(data)))
            return
        self._outgoing[output.number] = Outgoing(output.task_id, output.number, data, self._send)
        await self._send(output)

    def _output(self, name: str, result: Result, *, is_preview: bool = False, url: str | None = None) -> Output:
        timings, raster = result.timings, result.raster
        head = ResultHead(
            result.nbytes,
            dict(result.info),
            timings.waited,
            timings.ran,
            max(monotonic() - timings.finished, 0.0),
            None if raster is None else raster.shape,
            None if raster is None else raster.dtype,
            url,
        )
        return Output(self._request.task_id, self._next_number(), name, is_preview, head)

    def _next_number(self) -> int:
        number = self._outputs
        self._outputs += 1
        return number
