"""Objects by URL, read and written with obstore: S3, Google Cloud, Azure, HTTP, and files of the machine.

Credentials and regions come from the environment of the process, as for every tool of these services, or from options.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from offloop import InvalidTask, TaskFailed
from offloop.runtime.files.output_files import OutputFile

__all__ = ["Stores", "Url", "file_of", "is_url", "make_directory_of"]

_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl", "http", "https", "file")
# options of the HTTP client, which obstore keeps apart from those of the storage
_CLIENT_OPTIONS = {"allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "timeout", "user_agent"}
_CHUNK_NBYTES = 1024 * 1024
_MAX_URL_LENGTH = 4096


class Url(msgspec.Struct, frozen=True):
    """Source of a task that its node fetches: `Url("s3://bucket/key")`. The client never reads its bytes.

    Schemes: s3, gs, az, abfs, http, https, and file for files of the node.

    Raises:
        InvalidTask: it is no such URL.
    """

    url: str

    def __post_init__(self) -> None:
        if not is_url(self.url):
            raise InvalidTask(f"Url({self.url!r}): give one as in 's3://bucket/key'; schemes: {', '.join(_SCHEMES)}")
        if len(self.url) > _MAX_URL_LENGTH or "\0" in self.url:
            raise InvalidTask(f"Url({self.url[:40]!r}...): at most {_MAX_URL_LENGTH} characters, and no NUL")
        if not _split(self.url)[1]:
            raise InvalidTask(f"Url({self.url!r}): it names no object")

    def __str__(self) -> str:
        return self.url


def is_url(text: object) -> bool:
    """Whether a text is a URL with one of the known schemes."""
    return isinstance(text, str) and text.partition("://")[0].lower() in _SCHEMES and "://" in text


def file_of(url: str) -> Path | None:
    """The path of a file URL; None if it is another one."""
    scheme, _, rest = url.partition("://")
    return Path("/" + rest.lstrip("/")) if scheme.lower() == "file" else None


class Stores:
    """The stores that one process uses, one for each bucket."""

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        """Nothing is opened. `options`: those of obstore, such as "endpoint", "region", "allow_http"."""
        options = options or {}
        self._options: Any = {name: value for name, value in options.items() if name not in _CLIENT_OPTIONS}
        self._client_options: Any = {name: value for name, value in options.items() if name in _CLIENT_OPTIONS}
        if "allow_http" in self._client_options:
            self._client_options["allow_http"] = str(self._client_options["allow_http"]).lower() in ("true", "1")
        self._stores: dict[str, Any] = {}

    def open(self, url: str) -> tuple[Any, str]:
        """The store of a URL, and the key in it.

        Raises:
            InvalidTask: obstore does not know the address, or an option.
        """
        base, key = _split(url)
        store = self._stores.get(base)
        if store is None:
            try:
                if base == "file://":
                    store = from_url("file:///")
                else:
                    store = from_url(base, config=self._options or None, client_options=self._client_options or None)
            except (BaseError, ValueError) as error:
                raise InvalidTask(f"{base}: {error}", public_message="the source cannot be read") from None
            self._stores[base] = store
        return store, key

    async def read(self, url: str) -> StoredObject:
        """An object whose bytes can be read.

        Raises:
            InvalidTask: there is no such object.
            TaskFailed: with the code "source_unavailable": the storage does not answer, or refuses.
        """
        store, key = self.open(url)
        try:
            found = await obstore.get_async(store, key)
            return StoredObject(url, found)
        except (BaseError, OSError) as error:
            raise _unreadable(url, error) from None

    async def read_head(self, url: str, nbytes: int) -> bytes:
        """The first bytes of an object, at most `nbytes` of them.

        Raises:
            InvalidTask, TaskFailed: as `read`.
        """
        store, key = self.open(url)
        try:
            size = int((await obstore.head_async(store, key))["size"])
            if not min(size, nbytes):
                return b""
            return bytes(await obstore.get_range_async(store, key, start=0, end=min(size, nbytes)))
        except (BaseError, OSError) as error:
            raise _unreadable(url, error) from None

    async def write(self, url: str, data: memoryview | bytes, media_type: str | None = None) -> None:
        """Write an object: completely or not at all. An existing one is replaced.

        Raises:
            TaskFailed: with the code "cannot_write": the storage is full, does not answer, or refuses.
            InvalidTask: the URL cannot be one of an object.
        """
        path = file_of(url)
        if path is not None:
            await asyncio.to_thread(_write_file, path, memoryview(data))
            return
        store, key = self.open(url)
        attributes: Any = {"Content-Type": media_type} if media_type else None
        try:
            await obstore.put_async(store, key, data, attributes=attributes)
        except AlreadyExistsError:
            return
        except (BaseError, OSError) as error:
            raise TaskFailed("cannot_write", f"{url} cannot be written: {_first_line(error)}") from None

    async def list(self, prefix: str) -> AsyncIterator[list[tuple[str, int]]]:
        """URLs and lengths of the objects below a prefix, in pages.

        Raises:
            TaskFailed: with the code "source_unavailable".
        """
        store, key = self.open(prefix)
        base = _split(prefix)[0]
        untyped: Any = obstore
        stream: Any = untyped.list(store, prefix=key.rstrip("/") or None, chunk_size=1000)
        try:
            async for page in stream:
                yield [(f"{base}/{entry['path']}", int(entry["size"])) for entry in page]
        except (BaseError, OSError) as error:
            raise _unreadable(prefix, error) from None


class StoredObject:
    """An object of a storage that has begun to send it. Its bytes are read once."""

    def __init__(self, url: str, found: Any) -> None:
        """Take over an answer of obstore."""
        self._url = url
        self._found = found
        self.nbytes = int(found.meta["size"])
        """Length in bytes."""

    async def all_bytes(self) -> bytes:
        """All bytes at once, for a short object.

        Raises:
            TaskFailed: with the code "source_unavailable".
        """
        try:
            return bytes(await self._found.bytes_async())
        except (BaseError, OSError) as error:
            raise _unreadable(self._url, error) from None

    async def chunks(self) -> AsyncIterator[memoryview]:
        """The bytes in pieces.

        Raises:
            TaskFailed: with the code "source_unavailable"; also if there are fewer or more bytes than the storage has said.
        """
        received = 0
        try:
            async for chunk in self._found.stream(min_chunk_size=_CHUNK_NBYTES):
                received += len(chunk)
                if received > self.nbytes:
                    break
                yield memoryview(chunk)
        except (BaseError, OSError) as error:
            raise _unreadable(self._url, error) from None
        if received != self.nbytes:
            raise TaskFailed("source_unavailable", f"{self._url} has sent other than {self.nbytes:,} bytes")


def make_directory_of(path: Path) -> None:
    """Create the directory of a file, as an object store needs none. Blocks.

    Raises:
        TaskFailed: with the code "cannot_write".
    """
    try:
        os.makedirs(path.parent, exist_ok=True)
    except OSError as error:
        raise TaskFailed("cannot_write", f"{path.parent} cannot be created: {error.strerror}") from None


def _write_file(path: Path, data: memoryview) -> None:
    make_directory_of(path)
    OutputFile(str(path)).write(data)


def _split(url: str) -> tuple[str, str]:
    """Scheme with bucket or host, and key."""
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "file":
        return "file://", rest.lstrip("/")
    host, _, key = rest.partition("/")
    return f"{scheme.lower()}://{host}", key


def _unreadable(url: str, error: BaseException) -> InvalidTask | TaskFailed:
    if isinstance(error, FileNotFoundError):
        return InvalidTask(f"there is no {url}", public_message="the source cannot be read")
    return TaskFailed("source_unavailable", f"{url} cannot be read: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:400] if lines else type(error).__name__
