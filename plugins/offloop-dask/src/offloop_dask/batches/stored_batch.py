"""Runs a pipeline on all objects of a listing, and writes each result next to the others: a batch that can be continued."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import msgspec

from offloop import Operation, Outcome, PoolClosed, TaskFailed

from ..cluster_pool import ClusterPool
from ..errors import SchedulerLost
from ..storage import Stores, Url
from .listing import list_sources, name_of_result
from .manifest import Counts, Item, Manifest

__all__ = ["BatchReport", "cluster_map"]

T = TypeVar("T")

_PAGE = 1000  # sources that are read from the manifest at a time
_RECORDS = 200  # outcomes that are recorded in one transaction
_RECORD_S = 1.0  # most seconds until an outcome is recorded


class BatchReport(msgspec.Struct, frozen=True):
    """What a batch has done."""

    counts: Counts  # of the whole batch, with former runs
    new_done: int  # results of this run
    new_failed: int  # failures of this run
    seconds: float  # duration of this run


class _Store:
    """A manifest, and the one thread that uses it."""

    def __init__(self, manifest: Manifest, executor: ThreadPoolExecutor) -> None:
        self._manifest = manifest
        self._executor = executor

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


async def cluster_map(
    pool: ClusterPool,
    sources: str,
    pipeline: Sequence[Operation],
    *,
    to: str,
    manifest: str | Path,
    resume: bool = False,
    retry_failed: bool = False,
    suffix: str | None = None,
    retries: int = 2,
    timeout: float | None = 60.0,
    storage_options: dict[str, str] | None = None,
    on_progress: Callable[[Counts, bool], None] | None = None,
    report: Path | None = None,
) -> BatchReport:
    """Run a pipeline on every object below a prefix, and write each result to a URL. An interrupted batch can be continued.

        async with ClusterPool(address, plugins=["vips"]) as pool:
            await cluster_map(pool, "s3://photos", [Resize(320), Webp()], to="s3://small", manifest="run.db", suffix=".webp")

    Args:
        pool: an open pool.
        sources: URL of a prefix, which this process lists; or the path of a file with a URL in each line, "-" for stdin.
        pipeline: operations for every source.
        to: URL of the prefix of the results.
        manifest: path of the file that records what is done. After an interruption, at most the results that were under way are
            made again; they replace equal objects.
        resume: whether a batch of an existing manifest is continued.
        retry_failed: whether failed sources are done again.
        suffix: suffix of the results, as ".webp"; None: that of each source.
        retries: number of retries of a task whose worker or node died.
        timeout: seconds that a task may run; None: no limit.
        storage_options: options of obstore for the listing.
        on_progress: called with the numbers, and whether the listing is complete, about once a second.
        report: path of a file that gets one JSON line for each source without a result.

    Returns:
        The numbers of the batch and of this run. Failed sources are in the manifest, and do not raise.

    Raises:
        InvalidTask: the manifest is of another batch, or has one already; a source is no URL; or the pipeline is invalid.
        TaskFailed: with the code "source_unavailable": the sources cannot be listed.
        SchedulerLost: the cluster is gone for longer than the pool's `reconnect_timeout`. What is done is recorded.
        PoolClosed: the pool was closed.
    """
    started = monotonic()
    destination = Url(to.rstrip("/") + "/*").url.removesuffix("/*")
    about = {"sources": sources, "to": destination, "pipeline": repr(list(pipeline)), "suffix": str(suffix)}
    with ThreadPoolExecutor(1, thread_name_prefix="manifest") as executor:
        loop = asyncio.get_running_loop()
        opened = await loop.run_in_executor(executor, lambda: Manifest(Path(manifest), about, resume=resume))
        store = _Store(opened, executor)
        try:
            if retry_failed:
                await store.call(opened.retry_failed)
            run = _Run(pool, opened, store, on_progress)
            stores = Stores(storage_options)
            async with run.listing(sources, stores, lambda url: name_of_result(url, sources, destination, suffix)):
                await run.map(list(pipeline), retries, timeout)
            counts = await store.call(opened.counts)
            if report is not None:
                await store.call(_write_report, opened, report)
        finally:
            await asyncio.shield(loop.run_in_executor(executor, opened.close))
    return BatchReport(counts, run.done, run.failed, monotonic() - started)


class _Run:
    """One run of a batch."""

    def __init__(
        self, pool: ClusterPool, manifest: Manifest, store: _Store, on_progress: Callable[[Counts, bool], None] | None
    ) -> None:
        self._pool = pool
        self._manifest = manifest
        self._store = store
        self._on_progress = on_progress
        self._listed = asyncio.Event()  # set when there are new sources, or the listing has ended
        self._is_listed = False
        self._destinations: dict[str, str] = {}  # of the sources that are under way
        self._done: list[tuple[str, int]] = []  # outcomes that are not recorded yet
        self._failed: list[tuple[str, str, str]] = []
        self._recorded_at = monotonic()
        self.done = 0
        self.failed = 0

    @asynccontextmanager
    async def listing(self, sources: str, stores: Stores, name_of: Callable[[str], str]) -> AsyncGenerator[None]:
        """List the sources into the manifest while the block runs, unless it has them all."""
        self._is_listed = await self._store.call(lambda: self._manifest.is_listed)
        task = None if self._is_listed else asyncio.create_task(self._list(sources, stores, name_of))
        try:
            yield
            if task is not None:
                await task  # it has ended; its error is that of the batch
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait({task})

    async def _list(self, sources: str, stores: Stores, name_of: Callable[[str], str]) -> None:
        try:
            async for page in list_sources(sources, stores):
                await self._store.call(self._manifest.add, [(url, name_of(url)) for url in page])
                self._listed.set()
            await self._store.call(self._manifest.finish_listing)
        finally:
            self._is_listed = True
            self._listed.set()

    async def map(self, pipeline: list[Operation], retries: int, timeout: float | None) -> None:
        """Run all sources that are to be done, and record their outcomes."""
        batch = self._pool.map(
            self._waiting(), pipeline, to=lambda source: self._destinations[source.url], retries=retries, timeout=timeout
        )
        try:
            async with batch as outcomes:
                async for outcome in outcomes:
                    self._take(outcome)
                    if len(self._done) + len(self._failed) >= _RECORDS or monotonic() - self._recorded_at >= _RECORD_S:
                        await self._record()
        finally:
            await asyncio.shield(self._record())

    async def _waiting(self) -> AsyncIterator[Url]:
        number = 0
        while True:
            is_last = self._is_listed
            self._listed.clear()
            items: list[Item] = await self._store.call(self._manifest.waiting_after, number, _PAGE)
            for item in items:
                number = item.number
                self._destinations[item.source] = item.destination
                yield Url(item.source)
            if not items:
                if is_last:
                    return
                if not self._is_listed:
                    await self._listed.wait()

    def _take(self, outcome: Outcome[Url]) -> None:
        """Take an outcome.

        Raises:
            SchedulerLost, PoolClosed: the source was not done, and none will be.
        """
        if outcome.preview:
            return
        source, error = outcome.source.url, outcome.error
        self._destinations.pop(source, None)
        if isinstance(error, SchedulerLost | PoolClosed):
            raise error
        if error is None:
            self.done += 1
            self._done.append((source, outcome.unwrap().nbytes))
        else:
            self.failed += 1
            code = error.code if isinstance(error, TaskFailed) else type(error).__name__
            self._failed.append((source, code, str(error)))

    async def _record(self) -> None:
        done, self._done = self._done, []
        failed, self._failed = self._failed, []
        self._recorded_at = monotonic()
        if done or failed:
            await self._store.call(self._manifest.record, done, failed)
        if self._on_progress is not None:
            self._on_progress(await self._store.call(self._manifest.counts), self._is_listed)


def _write_report(manifest: Manifest, path: Path) -> None:
    with path.open("wb") as file:
        for failure in manifest.failures():
            file.write(msgspec.json.encode(failure) + b"\n")
