"""Keeps the source files of waiting tasks open, so that each is read once, into the inbox of the worker that runs its task.

Until then the kernel's page cache is the place of a file: the kernel is asked to read it ahead. A file that is no longer than
its header is kept as bytes, because it was read for the header. What all tasks of a pool may keep that way is limited. Beyond
that, the file of a task is read into the pool's inbox while the task waits.
"""

from __future__ import annotations

import os
import resource
import threading
from contextlib import suppress

from ..memory.source_file import SourceFile
from .source_files import FileHead, open_regular, read_head_of

__all__ = ["FileAllowances", "TaskFiles"]

_MAX_FILES = 256  # open files of all tasks of a pool
_MAX_FILES_SHARE = 1 / 8  # share of the descriptors that the process may have
_MAX_CONTENTS_NBYTES = 4 * 1024 * 1024  # bytes of short files, in the server's own memory
_MAX_AHEAD_NBYTES = 256 * 1024 * 1024  # length of the open files that the kernel is asked to read ahead; later ones wait


class _Allowance:
    """A limited amount that several threads take and give back."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self.left = limit

    def try_take(self, amount: int) -> bool:
        with self._lock:
            if amount > self.left:
                return False
            self.left -= amount
            return True

    def give_back(self, amount: int) -> None:
        with self._lock:
            self.left += amount


class FileAllowances:
    """What the source files of all tasks of one pool may take."""

    def __init__(self) -> None:
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_limited = descriptors != resource.RLIM_INFINITY
        self.files = _Allowance(min(_MAX_FILES, int(descriptors * _MAX_FILES_SHARE)) if is_limited else _MAX_FILES)
        self.contents_nbytes = _Allowance(_MAX_CONTENTS_NBYTES)
        self.ahead_nbytes = _Allowance(_MAX_AHEAD_NBYTES)


class TaskFiles:
    """The source files of one task. Threads open them; closing waits for threads that read."""

    def __init__(self, allowances: FileAllowances) -> None:
        self._allowances = allowances
        self._lock = threading.Lock()
        self._files: list[SourceFile] = []
        self._contents_nbytes = 0
        self._is_closed = False

    def open(self, path: str, head_nbytes: int) -> tuple[FileHead, memoryview | SourceFile | None]:
        """Read the header of a regular file, and keep the file. For threads.

        Args:
            path: of the file.
            head_nbytes: length of the header.

        Returns:
            The header, and what is kept: the contents of a short file, or the open file, which is read again. None: too much is
            kept already.

        Raises:
            InvalidTask: the path cannot be read, or is not a regular file of known size.
        """
        descriptor, status = open_regular(path)
        file: SourceFile | None = None
        try:
            head = read_head_of(path, descriptor, status, head_nbytes)
            if len(head.data) == head.nbytes and self._keep_contents(head.nbytes):
                return head, head.data
            file = self._keep(path, descriptor, status)
            return head, file
        finally:
            if file is None:
                os.close(descriptor)

    def close(self) -> None:
        """The task has ended, or its sources were copied."""
        with self._lock:
            files, self._files, self._is_closed = self._files, [], True
            nbytes, self._contents_nbytes = self._contents_nbytes, 0
        self._allowances.contents_nbytes.give_back(nbytes)
        for file in files:
            file.close()

    def _keep_contents(self, nbytes: int) -> bool:
        with self._lock:
            if self._is_closed or not self._allowances.contents_nbytes.try_take(nbytes):
                return False
            self._contents_nbytes += nbytes
            return True

    def _keep(self, path: str, descriptor: int, status: os.stat_result) -> SourceFile | None:
        """Take over a descriptor, unless too many files are open, or the task has ended."""
        allowances, nbytes = self._allowances, status.st_size
        with self._lock:
            if self._is_closed or not allowances.files.try_take(1):
                return None
            is_read_ahead = allowances.ahead_nbytes.try_take(nbytes)

            def give_back() -> None:
                allowances.files.give_back(1)
                if is_read_ahead:
                    allowances.ahead_nbytes.give_back(nbytes)

            file = SourceFile(path, descriptor, status, give_back)
            self._files.append(file)
        if is_read_ahead:
            with suppress(OSError):  # a file system that cannot
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        return file
