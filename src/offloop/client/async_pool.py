"""The protocol of pools: what `Pool` and a pool of several machines (`offloop_dask.ClusterPool`) have in common."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from types import EllipsisType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, Unpack, overload

from ..operation import Header, Operation
from ..task_options import TaskKeywords
from .batches.batch_progress import BatchProgress
from .batches.source_puller import Sources
from .outcome import Outcome
from .previews import PreviewCallback
from .progress_listener import ProgressCallback
from .results import Result

if TYPE_CHECKING:
    from ..statistics import Statistics

__all__ = ["AsyncBatch", "AsyncNamedOutcomes", "AsyncPool"]

ResultT = TypeVar("ResultT")
SourceT = TypeVar("SourceT")


class AsyncBatch(Protocol):
    """What `map` returns: the outcomes as the tasks finish. See `Batch`."""

    @property
    def progress(self) -> BatchProgress:
        """Number of tasks, share of the work that is done, and expected time until the end."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[Outcome[Any]]: ...

    async def __anext__(self) -> Outcome[Any]: ...


class AsyncNamedOutcomes(Awaitable[dict[str, Outcome[Any]]], Protocol):
    """What `run_many` returns: a dict of outcomes when awaited, pairs of name and outcome when entered. See `NamedOutcomes`."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...

    def __aiter__(self) -> AsyncIterator[tuple[str, Outcome[Any]]]: ...


class AsyncPool(Protocol):
    """The calls that every pool has, with the same results and errors. `Pool` describes them.

    Write a function for an `AsyncPool`, and it works on one machine and on a cluster.
    """

    async def run(
        self,
        source: Any,
        pipeline: Iterable[Operation],
        *,
        to: str | os.PathLike[str] | None = None,
        on_progress: ProgressCallback | None = None,
        on_preview: PreviewCallback | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> Result:
        """Run a pipeline on a source, and return the result. See `Pool.run`."""
        ...

    @overload
    def map(
        self,
        sources: Sources[SourceT],
        pipeline: Iterable[Operation],
        *,
        ordered: bool = False,
        max_in_flight: int | None = None,
        to: Callable[[SourceT], str | os.PathLike[str]] | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> AsyncBatch: ...

    @overload
    def map(
        self,
        sources: Sources[tuple[SourceT, Iterable[Operation]]],
        pipeline: None = None,
        *,
        ordered: bool = False,
        max_in_flight: int | None = None,
        to: Callable[[SourceT], str | os.PathLike[str]] | None = None,
        coalesce: bool = False,
        **options: Unpack[TaskKeywords],
    ) -> AsyncBatch:
        """Run a pipeline on many sources, and iterate over the outcomes as the tasks finish. See `Pool.map`."""
        ...

    def run_many(
        self,
        source: Any,
        pipelines: Mapping[str, Iterable[Operation]],
        *,
        to: Mapping[str, str | os.PathLike[str]] | None = None,
        on_progress: ProgressCallback | None = None,
        **options: Unpack[TaskKeywords],
    ) -> AsyncNamedOutcomes:
        """Run several named pipelines on one source, in one task. See `Pool.run_many`."""
        ...

    async def call(
        self,
        function: Callable[..., ResultT],
        /,
        *arguments: Any,
        timeout: float | EllipsisType | None = ...,
        queue_timeout: float | None = None,
        retries: int | None = None,
        priority: int = 0,
        tenant: str | None = None,
        memory_limit: int | str | None = None,
        labels: Mapping[str, str] | None = None,
        on_progress: ProgressCallback | None = None,
        **keywords: Any,
    ) -> ResultT:
        """Call a function in a worker, and return its result. See `Pool.call`."""
        ...

    async def probe(self, source: Any) -> Header:
        """Read a source's header without decoding the source. See `Pool.probe`."""
        ...

    def statistics(self) -> Statistics:
        """Statistics of the pool at this moment. See `Pool.statistics`."""
        ...

    async def drain(self, timeout: float | None = None) -> bool:
        """Refuse new tasks, wait for the present ones, and close the pool. See `Pool.drain`."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> None: ...
