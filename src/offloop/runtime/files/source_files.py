"""Reads source files for `probe`, estimate and staging: regular files only, never blocking on a special file.

`os.stat` comes before `os.open`, because opening a special file can have an effect: a FIFO's writer wakes up, a tape rewinds.
The opened file is checked again, because the name may refer to another file by then. A file that changes while it is read
raises `InvalidTask`. Files whose size is not known beforehand (`/proc`) are refused.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager

import msgspec

from ...errors import InvalidTask
from ..memory.segments import FileUnreadable, Segment

__all__ = ["FileHead", "file_nbytes", "open_regular", "read_file_head", "read_file_into", "read_head_of"]

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_FOR_CLIENTS = "the source cannot be read"  # public message, without the path

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


class FileHead(msgspec.Struct, frozen=True):
    """The first bytes of a file, and the file's size."""

    nbytes: int  # size of the whole file
    data: memoryview  # the first bytes, as many as were asked for, or the whole file if it is shorter


def file_nbytes(path: str) -> int:
    """The size of a regular file in bytes.

    Raises:
        InvalidTask: the path cannot be read, or is not a regular file of known size.
    """
    with _opened(path) as (_, status):
        return status.st_size


def read_file_head(path: str, nbytes: int) -> FileHead:
    """The first `nbytes` of a regular file.

    Raises:
        InvalidTask: as `file_nbytes`.
    """
    with _opened(path) as (descriptor, status):
        return read_head_of(path, descriptor, status, nbytes)


def read_head_of(path: str, descriptor: int, status: os.stat_result, nbytes: int) -> FileHead:
    """The first `nbytes` of an open file.

    Raises:
        InvalidTask: the file cannot be read.
    """
    try:
        return FileHead(status.st_size, memoryview(os.pread(descriptor, min(nbytes, status.st_size), 0)))
    except OSError as error:
        raise _unreadable(path, error) from error


def read_file_into(path: str, segment: Segment, offset: int, nbytes: int) -> None:
    """Read a whole regular file of `nbytes` bytes into a segment at `offset`.

    Raises:
        InvalidTask: as `file_nbytes`; or the size is not `nbytes` any more, or the file was changed while it was read.
    """
    with _opened(path) as (descriptor, status):
        complete = status.st_size == nbytes and segment.read_in(descriptor, offset, nbytes) == nbytes
        if not complete or _version(os.fstat(descriptor)) != _version(status):
            raise InvalidTask(f"the source {path!r} was changed while it was read", public_message=_FOR_CLIENTS)


@contextmanager
def _opened(path: str) -> Generator[tuple[int, os.stat_result]]:
    """The descriptor and the status of a regular file."""
    descriptor, status = open_regular(path)
    try:
        yield descriptor, status
    except FileUnreadable as error:
        raise _unreadable(path, error.error) from error
    finally:
        os.close(descriptor)


def open_regular(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file for reading. Returns its descriptor, which the caller closes, and its status.

    Raises:
        InvalidTask: the path cannot be read, or is not a regular file of known size.
    """
    try:
        _check_regular(path, os.stat(path))
        descriptor = os.open(path, _FLAGS)
        try:
            status = os.fstat(descriptor)
            _check_regular(path, status)
            _check_size(path, status, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
    except (OSError, ValueError) as error:  # ValueError: a NUL or a lone surrogate in the path
        raise _unreadable(path, error) from error
    return descriptor, status


def _unreadable(path: str, error: OSError | ValueError) -> InvalidTask:
    reason = getattr(error, "strerror", None) or error
    return InvalidTask(f"the source {path!r} cannot be read: {reason}", public_message=_FOR_CLIENTS)


def _check_size(path: str, status: os.stat_result, descriptor: int) -> None:
    if status.st_size == 0 and os.pread(descriptor, 1, 0):
        reason = "has contents but no size, as in /proc; read it, and pass its bytes"
        raise InvalidTask(f"the source {path!r} {reason}", public_message=_FOR_CLIENTS)


def _check_regular(path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "a special file")
        raise InvalidTask(f"the source {path!r} is {kind}, and not a regular file", public_message=_FOR_CLIENTS)


def _version(status: os.stat_result) -> tuple[int, int]:
    return status.st_size, status.st_mtime_ns
