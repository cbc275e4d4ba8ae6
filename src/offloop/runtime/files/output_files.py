"""Atomic output files (`to=`): a worker writes the file, and the server gives it its name when it is complete.

The server opens the file when the worker has the result, passes the descriptor, and gives the file its name when the worker has
answered. No worker opens a path. If the file system has `O_TMPFILE`, the file has no name until then, so a kill leaves no file.
A new name is made by `link`. An existing file is replaced by `rename`, for which the new file has a temporary name
(`.offloop-...`) for some microseconds. On other file systems (NFS, older overlay and FUSE) the file has such a name while
it is written; the server removes it at the end, unless the server is killed.

Nothing is synchronized: after a crash of a process the file is complete; after a power failure it depends on the file system.
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
_HAS_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}  # how a missing O_TMPFILE is reported

_NEW_FILE_MODE = 0o666  # before the umask
_SET_ID_BITS = stat.S_ISUID | stat.S_ISGID

_FOR_CLIENTS = "the result cannot be written"  # public message, without the path


def destination_path(to: str | os.PathLike[str]) -> str:
    """The absolute path of a destination. Not normalized, because the file system resolves ".." after a symbolic link.

    Raises:
        InvalidTask: the destination cannot be the path of a file.
    """
    try:
        path = os.fspath(to)
        if not isinstance(path, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers are not all typed)
            path = os.fsdecode(path)
        os.fsencode(path)
        path = os.path.join(os.getcwd(), path)
    except (TypeError, ValueError, OSError) as error:  # ValueError: a lone surrogate; OSError: no working directory
        raise _invalid(to, str(error)) from None
    if "\0" in path:
        raise _invalid(to, "a path cannot have a NUL in it")
    if os.path.basename(path) in ("", ".", ".."):
        raise _invalid(to, "it names a directory; give the path of a file")
    return path


class OutputFile:
    """One task's output file. The methods block; call them in threads. `discard` ends its use.

    A retried task opens it again, so a failed worker shares no file with the next one.
    """

    def __init__(self, path: str) -> None:
        """Store the absolute path of the destination. Opens nothing."""
        self.path = path
        self._directory, self._name = os.path.split(path)
        self._lock = threading.Lock()  # because the task may end while a thread opens the file
        self._descriptor: int | None = None
        self._temporary: str | None = None  # temporary path while the file is written, without O_TMPFILE
        self._discarded = False

    @property
    def descriptor(self) -> int:
        """Descriptor of the open file, for the worker."""
        assert self._descriptor is not None
        return self._descriptor

    def check(self) -> None:
        """Check whether the file can be written, before the task runs.

        Raises:
            InvalidTask: the destination exists and is neither a regular file nor a symbolic link.
            TaskFailed: with the code "cannot_write": its directory does not exist or cannot be written to.
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
        """Open an empty file in the destination's directory. Returns the task's error if that fails."""
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
        """Give the file its name, replacing an existing file.

        The mode of a replaced file is kept, and its owner if the server may change owners. The mode of a new file follows the
        umask. A symbolic link is replaced, and not followed.

        Args:
            nbytes: number of bytes that the worker says it has written.

        Raises:
            TaskFailed: with the code "cannot_write": the destination is unchanged.
            InvalidTask: since `check`, the destination has become something else than a regular file or a symbolic link.
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

    def write(self, data: memoryview) -> None:
        """Write the file from the server's side, and give it its name. An error leaves the destination unchanged.

        Raises:
            InvalidTask, TaskFailed: as `check` and `publish`.
        """
        try:
            error = self.open()
            if error is not None:
                raise error
            try:
                rest = data
                while rest:
                    rest = rest[os.write(self.descriptor, rest) :]
            except OSError as failed:
                raise self.cannot_write(failed) from None
            self.publish(data.nbytes)
        finally:
            self.discard()

    def discard(self) -> None:
        """Close the file and remove it, unless it was published."""
        with self._lock:
            self._discarded = True
            self._close()

    def _status(self) -> os.stat_result | None:
        """The status of the existing regular file; None if there is no file, or a symbolic link, which is replaced itself."""
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
            self._close()  # because without /proc the file cannot be given a name
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
            with suppress(OSError):  # its directory was removed
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
    temporary = _temporary_name()  # because only `rename` replaces a file, and its source needs a name
    os.link(link, temporary, dst_dir_fd=directory, follow_symlinks=True)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(temporary, dir_fd=directory)
        raise


def _keep_owner_and_mode(descriptor: int, status: os.stat_result) -> None:
    """Set owner and mode to those of the replaced file; without the set-user-ID bits if the owner cannot be set."""
    mode = stat.S_IMODE(status.st_mode)
    try:
        os.fchown(descriptor, status.st_uid, status.st_gid)
    except PermissionError:
        mode &= ~_SET_ID_BITS
        with suppress(PermissionError):
            os.fchown(descriptor, -1, status.st_gid)
    os.fchmod(descriptor, mode)
