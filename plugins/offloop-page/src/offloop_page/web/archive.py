"""All results of a batch as one ZIP64 file, which is written while it is sent. There is no temporary file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from starlette.responses import StreamingResponse
from stream_zip import NO_COMPRESSION_64, stream_zip

from ..batches.batch import Batch
from ..batches.file_entry import KeptResult
from .problems import Problem

__all__ = ["archive"]

_MODE = 0o100644  # a file that its owner writes and all others read
_CHUNK_NBYTES = 256 * 1024  # what one thread hop yields, and what waits for a slow client


def archive(batch: Batch) -> StreamingResponse:
    """Returns the archive of the results that there are now. They stay in memory until it is sent.

    Raises:
        Problem: there are none.
    """
    results = [kept for _, kept in batch.results()]
    if not results:
        raise Problem(409, "no_results", "No file of this batch has a result.", "Wait until a file is done.")
    headers = {"content-disposition": 'attachment; filename="pictures.zip"', "cache-control": "no-store"}
    chunks: Any = stream_zip(_members(results), chunk_size=_CHUNK_NBYTES)  # Starlette advances it in a thread
    return StreamingResponse(chunks, 200, headers, "application/zip")


def _members(results: list[KeptResult]) -> Iterator[tuple[str, datetime, int, Any, Iterator[bytes]]]:
    now = datetime.now(UTC)
    while results:
        kept = results.pop(0)  # so that the memory of a result that was dropped meanwhile is returned when it is sent
        yield kept.file_name, now, _MODE, NO_COMPRESSION_64(kept.result.nbytes, kept.crc32), _slices(kept)


def _slices(kept: KeptResult) -> Iterator[Any]:
    data = kept.result.data
    for start in range(0, len(data), _CHUNK_NBYTES):
        yield data[start : start + _CHUNK_NBYTES]
