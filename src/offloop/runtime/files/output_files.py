"""Files that workers write and the server names (`to=`): whole under their name, or not there at all.

The server opens the file when the worker has the result, passes the descriptor, and gives the file its name when the worker has
answered. No worker opens a path. Where the file system has `O_TMPFILE`, the file has no name until then, so nothing is left
behind by a kill. A name is given by `link` where there was none; a file that is there is replaced by `rename`, for
which the new file has a name of its own (`.offloop-...`) for some microseconds. Elsewhere (NFS, older overlay and FUSE file
systems) the file has such a name while it is written; the server removes it in the end, but not if the server is killed.

Nothing is synchronized: after a crash of a process the file is whole; after a power failure the file system decides.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import threading
from contextlib import suppress

from ...errors import InvalidTask, OffloopError, TaskFailed

__all__ = ["OutputFile", "destination_path"]

_UNNAMED = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
_NAMED = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
_HAS_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}  # as file systems and old kernels say it

_NEW_FILE_MODE = 0o666  # less the umask
_SET_ID_BITS = stat.S_ISUID | stat.S_ISGID

_FOR_CLIENTS = "the result cannot be written"  # without the path


def destination_path(to: str | os.PathLike[str]) -> str:
    """The absolute path of a destination. It is not normalized: ".." after a symbolic link is the file system's to resolve.

    Raises:
        InvalidTask: it cannot be the path of a file.
    """
    try:
        path = os.fspath(to)
        if not isinstance(path, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
            path = os.fsdecode(path)
        os.fsencode(path)
        path = os.path.join(os.getcwd(), path)
    except (TypeError, ValueError, OSError) as error:  # ValueError: a lone surrogate; OSError: the working directory is gone
        raise _invalid(to, str(error)) from None
    if "\0" in path:
        raise _invalid(to, "a path cannot have a NUL in it")
    if os.path.basename(path) in ("", ".", ".."):
        raise _invalid(to, "it names a directory; give the path of a file")
    return path


class OutputFile:
    """One task's output file. The methods block, and are for threads; after `discard` the others do nothing useful.

    A task that is tried again opens it again, so a worker that has failed shares no file with its successor.
    """

    def __init__(self, path: str) -> None:
        """Take the absolute path of the destination; nothing is opened."""
        self.path = path
        self._directory, self._name = os.path.split(path)
        self._lock = threading.Lock()  # its task may end while it is opened
        self._descriptor: int | None = None
        self._temporary: str | None = None  # the name of the file while it is written, where it needs one
        self._discarded = False

    @property
    def descriptor(self) -> int:
        """What is passed to the worker; the file is open."""
        assert self._descriptor is not None
        return self._descriptor

    def check(self) -> None:
        """Find out whether the file can be written, before its task is run.

        Raises:
            InvalidTask: something else than a regular file or a symbolic link is there.
            TaskFailed: with the code "cannot_write".
        """
        try:
            self._status()
            if not stat.S_ISDIR(os.stat(self._directory).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(self._directory, os.W_OK | os.X_OK, effective_ids=True):
                raise PermissionError(errno.EACCES, "its directory cannot be written to")
        except OSError as error:
            raise self.cannot_write(error) from None

    def open(self) -> OffloopError | None:
        """Open an empty file beside the destination. Returns why that is not possible; the error is for the task."""
        with self._lock:
            self._close()
            if self._discarded:
                return None
            try:
                status = self._status()
                self._open(_NEW_FILE_MODE if status is None else stat.S_IMODE(status.st_mode) & ~_SET_ID_BITS)
            except OSError as error:
                return self.cannot_write(error)
            except OffloopError as error:
                return error
            return None

    def publish(self, nbytes: int) -> None:
        """Give the file its name, replacing what is there. It keeps the mode of a file that it replaces, and its owner where
        the server may give files away; of a new file the mode follows the umask. A symbolic link is replaced, and not
        followed.

        Args:
            nbytes: how much the worker says that it wrote.

        Raises:
            TaskFailed: with the code "cannot_write": the destination is as it was.
            InvalidTask: a directory, or another file that is not a regular one, has come there since `check`.
        """
        with self._lock:
            try:
                self._check_length(nbytes)
                status = self._status()
                if status is not None:
                    _keep_owner_and_mode(self.descriptor, status)
                self._give_name()
            except OSError as error:
                raise self.cannot_write(error) from None
            finally:
                self._close()

    def _check_length(self, nbytes: int) -> None:
        written = os.fstat(self.descriptor).st_size
        if written != nbytes:
            raise OSError(errno.EIO, f"the worker wrote {written:,} bytes, and said {nbytes:,}")

    def discard(self) -> None:
        """The file is not wanted any more; nothing of it is left. After `publish`, this does nothing."""
        with self._lock:
            self._discarded = True
            self._close()

    def _status(self) -> os.stat_result | None:
        """Of the regular file that is there; None if there is none, or a symbolic link, which is replaced as such."""
        try:
            status = os.lstat(self.path)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a FIFO, a socket or a device"
            raise _invalid(self.path, f"{kind} is there; give the path of a regular file")
        return status

    def _open(self, mode: int) -> None:
        try:
            self._descriptor = os.open(self._directory, _UNNAMED, mode)
            if os.path.lexists(_link_of(self._descriptor)):
                return
            self._close()  # without /proc it could not be given a name
        except OSError as error:
            if error.errno not in _HAS_NO_UNNAMED:
                raise
        temporary = os.path.join(self._directory, _temporary_name())
        self._descriptor = os.open(temporary, _NAMED, mode)
        self._temporary = temporary

    def _give_name(self) -> None:
        if self._temporary is not None:
            os.replace(self._temporary, self.path)
            self._temporary = None
            return
        directory = os.open(self._directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _link_or_replace(_link_of(self.descriptor), self._name, directory)
        finally:
            os.close(directory)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._temporary is not None:
            with suppress(OSError):  # its directory is gone, too
                os.unlink(self._temporary)
            self._temporary = None

    def cannot_write(self, error: OSError) -> TaskFailed:
        """The error of a task whose file cannot be written."""
        return TaskFailed("cannot_write", f"{self.path!r}: {error.strerror}")


def _invalid(to: object, reason: str) -> InvalidTask:
    return InvalidTask(f"to={to!r}: {reason}", public_message=_FOR_CLIENTS)


def _link_of(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _temporary_name() -> str:
    return f".offloop-{secrets.token_hex(8)}"


def _link_or_replace(link: str, name: str, directory: int) -> None:
    with suppress(FileExistsError):
        os.link(link, name, dst_dir_fd=directory, follow_symlinks=True)
        return
    temporary = _temporary_name()  # because only `rename` replaces a name, and it takes another one
    os.link(link, temporary, dst_dir_fd=directory, follow_symlinks=True)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(temporary, dir_fd=directory)
        raise


def _keep_owner_and_mode(descriptor: int, status: os.stat_result) -> None:
    """As of the file that is replaced; without the set-user-ID bits where the owner cannot be kept."""
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.fchown(descriptor, status.st_uid, status.st_gid)
    except PermissionError:
        mode &= ~_SET_ID_BITS
        with suppress(PermissionError):
            os.fchown(descriptor, -1, status.st_gid)
    os.fchmod(descriptor, mode)
