"""Open source file of a waiting task: threads read it into a segment, or hash it, when the task needs that.

The descriptor is closed when the file is closed by its owner and no thread reads it any more. Otherwise a thread could read
another file that got the same descriptor.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress

from ...errors import InvalidTask, PoolClosed
from .segments import FileUnreadable, Segment

__all__ = ["CallerMemory", "SourceFile"]

_PIECE_NBYTES = 1024 * 1024  # read at once for a digest


class SourceFile:
    """A regular file. It must not change while it is open: each reading checks its length and its time of modification.

    So all readings give the same bytes: those for a digest, for a worker, and for another worker after a crash.
    """

    def __init__(self, path: str, descriptor: int, status: os.stat_result, on_close: Callable[[], None]) -> None:
        """Take over a descriptor.

        Args:
            path: for error texts.
            descriptor: closed with this object.
            status: of the descriptor.
            on_close: called once when the descriptor is closed, in any thread.
        """
        self.path = path
        self.nbytes = status.st_size
        self._version = status.st_mtime_ns
        self._descriptor = descriptor
        self._on_close = on_close
        self._lock = threading.Lock()
        self._holders = 1  # the owner, and those that have called `hold`
        self._is_closed = False  # whether the owner has closed it

    def hold(self) -> bool:
        """Keep the descriptor open until `release`. Returns whether it is open still."""
        with self._lock:
            if self._holders:
                self._holders += 1
            return bool(self._holders)

    def release(self) -> None:
        """End a `hold`."""
        with self._lock:
            self._holders -= 1
            is_last = not self._holders
        if is_last:
            os.close(self._descriptor)
            self._on_close()

    def close(self) -> None:
        """Close the file, at once or when no thread holds it any more. The owner may call it several times."""
        with self._lock:
            is_closed, self._is_closed = self._is_closed, True
        if not is_closed:
            self.release()

    def read_into(self, segment: Segment, offset: int, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Read the whole file into a segment. For threads. When it is not wanted any more, ends as soon as possible.

        Raises:
            InvalidTask: the file cannot be read, or has changed.
            OSError: the system has no memory for the segment's pages.
            PoolClosed: the file or the segment was closed.
        """
        with self._reading() as descriptor:
            done = segment.read_in(descriptor, offset, self.nbytes, is_wanted)
            if is_wanted() and done != self.nbytes:
                raise self._error_of_change()

    def pieces(self) -> Iterator[bytes]:
        """The contents in pieces, for a digest. For threads.

        Raises:
            InvalidTask, PoolClosed: as `read_into`.
        """
        with self._reading() as descriptor:
            position = 0
            while position < self.nbytes:
                try:
                    piece = os.pread(descriptor, min(_PIECE_NBYTES, self.nbytes - position), position)
                except OSError as error:
                    raise FileUnreadable(error) from None
                if not piece:
                    raise self._error_of_change()
                position += len(piece)
                yield piece

    @contextmanager
    def _reading(self) -> Generator[int]:
        """Hold the descriptor, and check the file before and after it is read."""
        if not self.hold():
            raise PoolClosed("the task of the source has ended")
        try:
            self._check()
            yield self._descriptor
            self._check()
        except FileUnreadable as error:
            reason = f"the source {self.path!r} cannot be read: {error}"
            raise InvalidTask(reason, public_message="the source cannot be read") from None
        finally:
            self.release()

    def _check(self) -> None:
        status = os.fstat(self._descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.nbytes, self._version):
            raise self._error_of_change()

    def _error_of_change(self) -> InvalidTask:
        reason = f"the source {self.path!r} was changed before its task had ended"
        return InvalidTask(reason, public_message="the source cannot be read")

    def __del__(self) -> None:
        """Close a descriptor whose holders have vanished, because the event loop has ended."""
        if self._holders:
            with suppress(OSError):
                os.close(self._descriptor)


CallerMemory = memoryview | SourceFile
"""A source that stays with its caller until its task is sent: bytes that cannot change, or an open file."""
