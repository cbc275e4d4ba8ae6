"""Renders the frames of a track into a video file. A thread encodes, from the memory that a worker has written."""

from __future__ import annotations

import asyncio
import io
import logging
import tempfile
import threading
import weakref
from enum import StrEnum
from typing import IO, Any

from offloop import OffloopError, Pool

from ..batches.failures import Failure, failure_of

__all__ = ["ExportState", "VideoExport"]

_log = logging.getLogger("offloop.page")

_IN_MEMORY_NBYTES = 16_000_000  # of the video, before it is in a file without a name


class ExportState(StrEnum):
    """State of an export."""

    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class VideoExport:
    """One export, from its start on."""

    def __init__(self, pool: Pool, data: memoryview, operation: Any) -> None:
        self.state = ExportState.WORKING
        self.fraction = 0.0  # part of the frames that are encoded
        self.failure: Failure | None = None  # reason in the state FAILED
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_NBYTES)  # noqa: SIM115 (the finalizer closes it)
        weakref.finalize(self, self._file.close)  # not before the last download has ended
        self._file_lock = threading.Lock()  # because downloads read in threads
        self._task = asyncio.create_task(self._run(pool, data, operation))

    def cancel(self) -> None:
        """Stop the export."""
        self._task.cancel()

    async def ended(self) -> None:
        """Wait for the end. No error is raised."""
        await asyncio.gather(self._task, return_exceptions=True)

    def read(self, position: int, nbytes: int) -> bytes:
        """Returns a part of the file. Any thread may call it."""
        with self._file_lock:
            self._file.seek(position)
            return self._file.read(nbytes)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields for clients."""
        failure = None if self.failure is None else {"detail": self.failure.detail, "advice": self.failure.advice}
        return {"state": self.state, "fraction": round(self.fraction, 4), "failure": failure}

    async def _run(self, pool: Pool, data: memoryview, operation: Any) -> None:
        try:
            await self._encode(pool, data, operation)
            self.state = ExportState.DONE
        except asyncio.CancelledError:
            self.state = ExportState.CANCELLED
            raise
        except OffloopError as error:
            self._fail(failure_of(error))
        except Exception:
            _log.exception("the export of a video failed by a defect")
            self._fail(Failure("internal", "The server failed.", "Tell the operator of the server.", can_retry=True))

    async def _encode(self, pool: Pool, data: memoryview, operation: Any) -> None:
        from offloop_visualizer.video_file import open_video  # noqa: PLC0415 (because the extra is optional)

        sound = io.BytesIO(await asyncio.to_thread(bytes, data))
        async with pool.stream(data, [operation], overrun="wait") as frames:
            with open_video(self._file, sound, operation, container="mp4") as video:  # pyright: ignore[reportArgumentType]
                async for frame in frames:
                    await asyncio.to_thread(video.add, frame)
                    self.fraction = (frame.info.tick + 1) / frame.info.ticks
                await asyncio.to_thread(video.finish)

    def _fail(self, failure: Failure) -> None:
        self.state, self.failure = ExportState.FAILED, failure
