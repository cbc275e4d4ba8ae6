"""Makes the request of a task from the arguments of a call: checks them with the plugins' light halves, and encodes them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from offloop import InvalidTask, Operation, Result
from offloop.client.sources import (
    ArrayObject,
    Bytes,
    File,
    Material,
    Samples,
    TableObject,
    classify_all,
    samples_of,
)
from offloop.client.staging.tables import Table, table_of
from offloop.functions.callee import Callee
from offloop.plugins import Plan, Planner
from offloop.runtime.files.output_files import OutputFile, destination_path
from offloop.runtime.memory.source_memory import read_head
from offloop.task_options import TaskOptions

from ..storage import Url, is_url
from ..wire.messages import CallRequest, Fetched, PipelineRequest, Sent, Stage, TaskRequest

__all__ = ["Prepared", "RequestMaker", "destination_of", "head_of", "with_id"]

_Payload = tuple[Fetched | Sent, memoryview]
_NOTHING = memoryview(b"")


class Prepared(NamedTuple):
    """A task that is ready to be sent, to one node or, if it is retried, to another."""

    request: TaskRequest  # without an id
    payloads: tuple[memoryview, ...]  # bytes of its sources; empty for those that the node fetches

    @property
    def nbytes(self) -> int:
        """Length of the sources that are sent."""
        return sum(payload.nbytes for payload in self.payloads)


def destination_of(to: str | os.PathLike[str] | Url | None) -> tuple[str | None, OutputFile | None]:
    """Where a result goes: a URL to which the node writes it, or a file of this machine. Both None: it stays in memory.

    Raises:
        InvalidTask: `to` is neither.
    """
    if to is None:
        return None, None
    if isinstance(to, Url):
        return to.url, None
    if is_url(to):
        return Url(cast("str", to)).url, None
    return None, OutputFile(destination_path(to))


class RequestMaker:
    """Makes requests with the plugins of a pool."""

    def __init__(self, planner: Planner, max_source_bytes: int) -> None:
        self._planner = planner
        self._max_source_bytes = max_source_bytes

    def check(self, pipeline: Iterable[Operation]) -> None:
        """Check a pipeline.

        Raises:
            InvalidTask, PluginError: it is invalid.
        """
        self._planner.plan(pipeline)

    async def run(
        self,
        source: Any,
        pipeline: Iterable[Operation],
        options: TaskOptions,
        to: str | None,
        *,
        wants_previews: bool,
        coalesce: bool,
    ) -> Prepared:
        """The request of `run`. `to`: URL of the result.

        Raises:
            InvalidTask, PluginError: the source or the pipeline is invalid.
        """
        plan = self._planner.plan(pipeline)
        return await self._prepare(
            source,
            plan.attachments,
            options,
            pipelines=[PipelineRequest("", _stages_of(plan), to)],
            wants_previews=wants_previews and bool(plan.previews),
            coalesce=coalesce,
        )

    async def run_many(
        self,
        source: Any,
        pipelines: Mapping[str, Iterable[Operation]],
        options: TaskOptions,
        to: Mapping[str, str],
        *,
        wants_previews: bool,
    ) -> Prepared:
        """The request of `run_many`. `to`: URLs of results, by name of the pipeline.

        Raises:
            InvalidTask, PluginError: the source or a pipeline is invalid.
        """
        plan = self._planner.plan_many(pipelines)
        stages = iter(_stages_of(plan))
        requests = [
            PipelineRequest(name, [next(stages) for _ in range(number)], to.get(name))
            for name, number in plan.pipelines.items()
        ]
        return await self._prepare(
            source,
            plan.attachments,
            options,
            pipelines=requests,
            is_named=True,
            wants_previews=wants_previews and bool(plan.previews),
        )

    async def call(
        self, callee: Callee, arguments: Sequence[Any], keywords: Mapping[str, Any], options: TaskOptions
    ) -> Prepared:
        """The request of a call of a function.

        Raises:
            InvalidTask: an argument is missing or has the wrong type.
        """
        call, sources = callee.call(arguments, keywords)
        request = CallRequest(call.function, call.arguments, call.memory_bytes)
        return await self._prepare(sources[0] if sources else b"", sources[1:], options, call=request)

    def head(self, url: Url, nbytes: int) -> Prepared:
        """The request for the first bytes of an object."""
        return Prepared(TaskRequest(task_id=0, sources=[Fetched(url.url)], head_nbytes=nbytes), (_NOTHING,))

    async def _prepare(self, source: Any, others: Sequence[Any], options: TaskOptions, **fields: Any) -> Prepared:
        found = [await self._payload_of(one) for one in (source, *others)]
        total = sum(payload.nbytes for _, payload in found)
        if total > self._max_source_bytes:
            raise InvalidTask(
                f"the sources have {total:,} bytes, and max_source_bytes is {self._max_source_bytes:,}: "
                "put them where the nodes can fetch them, and give Url('s3://...')"
            )
        request = TaskRequest(
            task_id=0,
            sources=[spec for spec, _ in found],
            timeout_s=options.timeout_s,
            queue_timeout_s=options.queue_timeout_s,
            retries=options.retries,
            priority=options.priority,
            tenant=options.tenant,
            memory_limit_bytes=options.memory_limit_bytes,
            labels=dict(options.labels),
            **fields,
        )
        return Prepared(request, tuple(payload for _, payload in found))

    async def _payload_of(self, source: Any) -> _Payload:
        if isinstance(source, Url):
            return Fetched(source.url), _NOTHING
        (material,) = classify_all(source)
        return await self._payload_of_material(material)

    async def _payload_of_material(self, material: Material) -> _Payload:  # noqa: PLR0911 (one for each kind)
        match material:
            case Bytes(data):
                return _sent(await _flat(data))
            case Samples(data, shape, dtype):
                return _sent(await _flat(data), shape, dtype)
            case ArrayObject():
                return await self._payload_of_material(await asyncio.to_thread(samples_of, material))
            case File(path):
                return _sent(memoryview(await asyncio.to_thread(_read_file, path, self._max_source_bytes)))
            case TableObject():
                return _sent(await asyncio.to_thread(_table_bytes, material))
            case Result():
                if material.raster is not None:
                    return _sent(material.data[:], material.raster.shape, material.raster.dtype)
                if not material.data.nbytes and material.nbytes:
                    raise InvalidTask("the result was written to a file or a URL; give that as the source")
                return _sent(material.data[:])
            case _:
                raise InvalidTask("a Buffer belongs to a Pool of this process; give bytes, or Url('s3://...')")


def head_of(source: Any, nbytes: int) -> memoryview:
    """The first bytes of a source in memory or in a file, at most `nbytes` of them. Blocks.

    Raises:
        InvalidTask: it has no bytes, or cannot be read.
    """
    (material,) = classify_all(source)
    match material:
        case Bytes(data):
            return data[:nbytes] if data.c_contiguous else memoryview(read_head(data, nbytes))
        case File(path):
            return memoryview(_read_file(path, None, nbytes))
        case Result() if material.raster is None:
            return material.data[:nbytes]
        case _:
            raise InvalidTask("samples have no header to probe; their shape says it all")


def _stages_of(plan: Plan) -> list[Stage]:
    return [Stage(stage.plugin, stage.operations) for stage in plan.stages]


def _sent(data: memoryview, shape: tuple[int, ...] | None = None, dtype: str | None = None) -> _Payload:
    return Sent(data.nbytes, shape, dtype), data


async def _flat(data: memoryview) -> memoryview:
    """The bytes in one dimension. A large array with gaps is copied in a thread."""
    if data.c_contiguous:
        return data.cast("B") if data.nbytes else _NOTHING
    return memoryview(await asyncio.to_thread(data.tobytes))


def _table_bytes(table: TableObject) -> memoryview:
    found = table_of(table)
    if isinstance(found, Table):
        memory = memoryview(bytearray(found.nbytes))
        found.write(memory)
        return memory
    return found.data


def _read_file(path: str, limit: int | None, nbytes: int = -1) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if limit is not None and size > limit:
                raise InvalidTask(
                    f"{path} has {size:,} bytes, and max_source_bytes is {limit:,}: put it where the nodes can fetch it, "
                    "and give Url('s3://...')",
                    public_message="the source is too large",
                )
            return file.read(nbytes)
    except OSError as error:
        reason = f"the source {path!r} cannot be read: {error.strerror}"
        raise InvalidTask(reason, public_message="the source cannot be read") from None


def with_id(
    request: TaskRequest, task_id: int, queue_timeout_s: float | None, retries: int, *, wants_progress: bool
) -> TaskRequest:
    """The request of one attempt."""
    return msgspec.structs.replace(
        request, task_id=task_id, queue_timeout_s=queue_timeout_s, retries=retries, wants_progress=wants_progress
    )
