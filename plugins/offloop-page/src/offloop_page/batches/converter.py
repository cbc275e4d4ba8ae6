"""Runs the conversion of a file in the pool, and keeps its results."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import zlib
from collections.abc import AsyncIterable

from offloop import Buffer, Header, InvalidTask, OffloopError, Operation, Pool, Progress, Result

from .batch import Attempt
from .conversion import SUFFIX_OF_FORMAT
from .failures import Failure, failure_of
from .file_entry import KeptResult
from .file_state import FileEvent

__all__ = ["Converter", "tell_progress"]

_log = logging.getLogger("offloop.page")


class Converter:
    """Receives the bytes of files, and converts them in tasks of the loop, which end with the pool at the latest."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tasks: set[asyncio.Task[None]] = set()

    async def receive(self, chunks: AsyncIterable[bytes], max_bytes: int, announced: int) -> Buffer:
        """Write a file's bytes into shared memory as they come.

        Raises:
            InvalidTask: there are none.
            Every error of `Pool.receive`.
        """
        source = await self._pool.receive(chunks, max_bytes=max_bytes, expected_bytes=announced)
        if source.nbytes == 0:
            raise InvalidTask("the file is empty")
        return source

    def start(self, attempt: Attempt, source: Buffer) -> asyncio.Task[None]:
        """Convert a file that was received. Returns the task, which never raises an error."""
        task = asyncio.create_task(self._convert(attempt, source))
        attempt.entry.stop = task.cancel
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Cancel all conversions, and return when they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _convert(self, attempt: Attempt, source: Buffer) -> None:
        try:
            header = await self._pool.probe(source)
            attempt.entry.header = header
            pipelines = attempt.batch.conversion.pipelines(header)
            if len(pipelines) == 1:
                [(width, pipeline)] = pipelines.items()
                results = {width: await self._run_one(attempt, source, pipeline)}
            else:
                results = await self._run_many(attempt, source, pipelines)
            await self._keep(attempt, header, results)
        except OffloopError as error:
            attempt.fail(failure_of(error))
        except Exception:
            _log.exception("the conversion of a file failed by a defect")
            attempt.fail(Failure("internal", "The server failed.", "Tell the operator of the server.", can_retry=True))

    async def _run_one(self, attempt: Attempt, source: Buffer, pipeline: list[Operation]) -> Result:
        return await self._pool.run(
            source,
            pipeline,
            retries=1,
            tenant=attempt.batch.client,
            on_progress=lambda progress: tell_progress(attempt, progress),
            on_preview=lambda preview: _show(attempt, preview),
        )

    async def _run_many(
        self, attempt: Attempt, source: Buffer, pipelines: dict[int | None, list[Operation]]
    ) -> dict[int | None, Result]:
        named = {str(width): pipeline for width, pipeline in pipelines.items()}
        results: dict[int | None, Result] = {}
        async with self._pool.run_many(
            source,
            named,
            retries=1,
            tenant=attempt.batch.client,
            on_progress=lambda progress: tell_progress(attempt, progress),
        ) as outcomes:
            async for name, outcome in outcomes:
                result = outcome.unwrap()
                if outcome.preview:
                    _show(attempt, result)
                    continue
                results[int(name)] = result
        return results

    async def _keep(self, attempt: Attempt, header: Header, results: dict[int | None, Result]) -> None:
        kept: list[KeptResult] = []
        for width, result in results.items():
            sha256, crc32 = await asyncio.to_thread(_digests, result)
            suffix = SUFFIX_OF_FORMAT[result.info.media_type.removeprefix("image/")]
            name = attempt.batch.name_of_result(attempt.entry, suffix, width if len(results) > 1 else None)
            kept.append(KeptResult(result, "full" if width is None else str(width), name, sha256, crc32))
        if attempt.is_current:
            attempt.entry.header = header
            attempt.batch.set_results(attempt.entry, tuple(kept))
            attempt.tell(FileEvent.SUCCEEDED)


def tell_progress(attempt: Attempt, progress: Progress) -> None:
    """Keep what the pool says of a task."""
    if not attempt.is_current:
        return
    entry = attempt.entry
    entry.fraction, entry.operation, entry.eta_s = progress.fraction, progress.operation, progress.eta_s
    entry.cost_s, entry.waits_for = progress.cost_s or entry.cost_s, progress.waits_for
    if progress.waits_for is None:
        attempt.tell(FileEvent.STARTED)
    else:
        attempt.batch.changed(entry)


def _show(attempt: Attempt, preview: Result) -> None:
    """Keep a copy of a preview, which is some kilobytes, so that its shared memory is returned at once."""
    if attempt.is_current:
        attempt.entry.preview = bytes(preview)
        attempt.batch.changed(attempt.entry)


def _digests(result: Result) -> tuple[str, int]:
    return hashlib.sha256(result.data).hexdigest(), zlib.crc32(result.data)
