"""The calls of a pool that prepare a source: `probe`, `buffer`, `receive`. `Pool` inherits them."""

from __future__ import annotations

from collections.abc import AsyncIterable

from ..errors import InvalidTask, TaskFailed
from ..operation import Header
from ..runtime.files.source_files import read_file_head
from ..runtime.memory.source_memory import read_head
from ..settings import check_nbytes
from .buffers import Buffer
from .calls import Calls
from .results import Result
from .sources import Bytes, File, Source, classify
from .staging.streams import receive_stream

__all__ = ["SourceCalls"]


class SourceCalls(Calls):
    """The calls of a pool, with those that prepare a source."""

    async def probe(self, source: Source) -> Header:
        """Read a source's header without decoding the source: media type, width, height.

        Reads only what the plugins ask for (256 KiB by default), in a thread, in pure Python. A `Buffer` is not moved.

        Raises:
            TaskFailed: with the code "unsupported_format": no plugin knows the format.
            InvalidTask: a file cannot be read, or the source is samples, which have no header.
        """
        background, nbytes = self._open().background, self._registry.probe_nbytes
        material = classify(source)
        match material:
            case Bytes(data, private) if private and data.c_contiguous:
                head = data[:nbytes]
            case Bytes(data):
                head = memoryview(await background.run_in_thread(read_head, data, nbytes, limiter=background.source_threads))
            case File(path):
                head = (await background.run_in_thread(read_file_head, path, nbytes, limiter=background.file_threads)).data
            case Buffer():
                head = material.view[:nbytes]
            case Result() if material.raster is None:
                head = material.data[:nbytes]
            case _:
                raise InvalidTask("samples have no header to probe; their shape says it all")
        header = await background.run_in_thread(self._registry.probe, head.toreadonly(), limiter=background.source_threads)
        if header is None:
            raise TaskFailed("unsupported_format", "no plugin of this pool knows the format of this source")
        return header

    def buffer(self, nbytes: int) -> Buffer:
        """Return a shared-memory buffer that the caller fills and passes as a source, without a copy on the event loop.

        Raises:
            ValueError, TypeError: `nbytes` is less than 1, or not a whole number.
            MemoryLimitExceeded: a buffer of this size can never fit.
        """
        supervisor = self._open()
        future = supervisor.request_input(check_nbytes("nbytes", nbytes, 1))
        future.check()
        return Buffer(supervisor, future)

    async def receive(
        self, byte_stream: AsyncIterable[bytes], *, max_bytes: int | None = None, expected_bytes: int | None = None
    ) -> Buffer:
        """Write a stream's chunks into shared memory as they arrive, and return them as one `Buffer`.

        Args:
            byte_stream: an async iterable of bytes-like chunks: `request.stream()`, or an anyio byte stream, which stays open.
            max_bytes: maximum length of the stream. Default: the inbox's capacity.
            expected_bytes: a hint, such as the Content-Length. This much memory is reserved before the first byte is read, so
                a stream that is not longer never waits for memory in the middle.

        Memory is reserved as the bytes arrive. A stream waits for more memory when there is none.

        Raises:
            SourceTooLarge: the stream has more than `max_bytes`.
            MemoryLimitExceeded: the stream is longer than the inbox can ever hold; or only streams that are being received
                hold memory, none of them can go on, and this is the youngest; or callers hold all memory (results, buffers),
                and none was returned for 30 seconds.
            InvalidTask: a chunk is not bytes-like.
            ValueError, TypeError: `max_bytes` or `expected_bytes` is negative, or not a whole number.

        If the call is cancelled or the stream raises an error, the memory is returned.
        """
        supervisor = self._open()
        limit = supervisor.core.settings.inbox_nbytes if max_bytes is None else check_nbytes("max_bytes", max_bytes, 0)
        expected = None if expected_bytes is None else check_nbytes("expected_bytes", expected_bytes, 0)
        future, received = await receive_stream(supervisor, byte_stream, limit, expected)
        buffer = Buffer(supervisor, future)
        buffer.trim(received)
        return buffer
