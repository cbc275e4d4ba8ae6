"""What a user may pass as a source, told apart once.

Bytes-like objects are a file's contents, or any bytes; arrays are samples. An array is known by the array interface, so
numpy, Pillow and others need not be imported here.
"""

from __future__ import annotations

import os
from math import prod
from typing import Any, TypeAlias, cast

import msgspec

from .buffers import Buffer
from .errors import InvalidTask
from .results import Result
from .wire.handles import itemsize_of

__all__ = ["Bytes", "File", "Samples", "Source", "classify"]

Source: TypeAlias = "bytes | bytearray | memoryview | str | os.PathLike[str] | Buffer | Result | Any"
"""Bytes-like, a path, a `Buffer`, a `Result`, or anything with the array interface."""

_MAX_BANDS_DIMENSIONS = 3


class Bytes(msgspec.Struct, frozen=True):
    """Bytes in the caller's memory."""

    data: memoryview  # one-dimensional, contiguous

    @property
    def nbytes(self) -> int:
        """Its length."""
        return self.data.nbytes


class File(msgspec.Struct, frozen=True):
    """A file to be read."""

    path: str  # absolute


class Samples(msgspec.Struct, frozen=True):
    """An array in the caller's memory."""

    data: memoryview  # one-dimensional, contiguous bytes
    shape: tuple[int, int, int]  # height, width, bands
    dtype: str

    @property
    def nbytes(self) -> int:
        """Its length in bytes."""
        return self.data.nbytes


def classify(source: Source) -> Bytes | File | Samples | Buffer | Result:
    """Say what a source is.

    Raises:
        InvalidTask: it is nothing that can be a source.
    """
    if isinstance(source, bytes):  # nearly always, and nothing can be wrong with it
        return Bytes(memoryview(source))
    if isinstance(source, Buffer | Result):
        return source
    if isinstance(source, str | os.PathLike):
        path = cast("str | os.PathLike[str]", source)
        return File(os.path.abspath(os.fsdecode(path)))
    if hasattr(source, "__array_interface__"):
        return _samples(source)
    try:
        view = memoryview(source)
    except TypeError:
        kinds = "bytes-like, a path, a Buffer, a Result, or an array"
        raise InvalidTask(f"a {type(source).__name__} is no source; give something {kinds}") from None
    except ValueError as error:
        raise InvalidTask(f"the source cannot be read: {error}") from None  # a released memoryview
    return Bytes(_flat(view))


def _samples(source: Any) -> Samples:
    try:
        interface = dict(source.__array_interface__)
        shape, dtype = tuple(map(int, interface["shape"])), str(interface["typestr"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidTask(f"a {type(source).__name__} has a broken array interface: {error!r}") from None
    if len(shape) == 2:  # noqa: PLR2004 (height and width)
        shape = (*shape, 1)
    if len(shape) != _MAX_BANDS_DIMENSIONS or min(shape) < 1:
        raise InvalidTask(
            f"an array of shape {interface['shape']} is no picture; give (height, width) or (height, width, bands)"
        )
    try:
        nbytes = itemsize_of(dtype) * prod(shape)
    except ValueError as error:
        raise InvalidTask(f"an array of that dtype is no picture: {error}") from None
    data = _memory_of(source, interface)
    if data.nbytes != nbytes:
        raise InvalidTask(f"an array of shape {shape} and dtype {dtype!r} has {nbytes} bytes, but there are {data.nbytes}")
    return Samples(data, shape, dtype)


def _memory_of(source: Any, interface: dict[str, Any]) -> memoryview:
    try:
        return _flat(memoryview(source))
    except (TypeError, ValueError, BufferError):  # Pillow: bytes come with the interface instead
        data = interface.get("data")
    if not isinstance(data, bytes):
        raise InvalidTask(f"a {type(source).__name__} does not give its memory: neither as a buffer nor as bytes")
    return memoryview(data)


def _flat(view: memoryview) -> memoryview:
    """The same bytes in one dimension; copied only if they are not contiguous."""
    if not view.nbytes:
        return memoryview(b"")
    return view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
