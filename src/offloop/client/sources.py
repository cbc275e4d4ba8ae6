"""What a user may pass as a source, told apart once.

Bytes-like objects are a file's contents, or any bytes; arrays are samples. An array is known by the array interface, so
numpy, Pillow and others need not be imported here. Nothing is copied or read here: this runs on the event loop.
"""

from __future__ import annotations

import os
from math import prod
from typing import Any, TypeAlias, cast

import msgspec

from ..errors import InvalidTask
from ..runtime.memory.source_memory import is_private_memory
from ..wire.handles import check_shape, itemsize_of
from .buffers import Buffer
from .results import Result

__all__ = ["ArrayObject", "Bytes", "File", "Material", "Samples", "Source", "classify", "samples_of"]

Source: TypeAlias = "bytes | bytearray | memoryview | os.PathLike[str] | Buffer | Result | Any"
"""Bytes-like, a path (`pathlib.Path`, not `str`), a `Buffer`, a `Result`, or anything with the array interface."""


class Bytes(msgspec.Struct, frozen=True):
    """Bytes in the caller's memory."""

    data: memoryview  # one-dimensional bytes if it is contiguous; else as the caller strided it
    private: bool  # memory of this process alone; else it may be a mapped file, which another process may truncate

    @property
    def nbytes(self) -> int:
        """Its length."""
        return self.data.nbytes


class File(msgspec.Struct, frozen=True):
    """A file to be read."""

    path: str  # absolute


class Samples(msgspec.Struct, frozen=True):
    """An array in the caller's memory."""

    data: memoryview  # as in `Bytes`
    shape: tuple[int, ...]
    dtype: str
    private: bool  # as in `Bytes`

    @property
    def nbytes(self) -> int:
        """Its length in bytes."""
        return self.data.nbytes


class ArrayObject(msgspec.Struct, frozen=True):
    """An object that copies its samples whenever its array interface is asked for (Pillow): `samples_of` is for a thread."""

    source: Any


Material: TypeAlias = Bytes | File | Samples | ArrayObject | Buffer | Result


def classify(source: Source) -> Material:
    """Say what a source is.

    Raises:
        InvalidTask: it is nothing that can be a source.
    """
    if type(source) is bytes:  # nearly always, and nothing can be wrong with it
        return Bytes(memoryview(source), private=True)
    if isinstance(source, Buffer | Result):
        return source
    if isinstance(source, str):
        raise InvalidTask("a str is no source: give pathlib.Path(...) for a file, or bytes for contents")
    if isinstance(source, os.PathLike):
        return File(_absolute(cast("os.PathLike[str] | os.PathLike[bytes]", source)))
    return _samples_or_object(source) if _has_array_interface(source) else _bytes_of(source)


def _has_array_interface(source: Any) -> bool:
    """Whether there is an array interface, found without asking for it: Pillow copies the whole image to answer."""
    return hasattr(source.__class__, "__array_interface__") or "__array_interface__" in getattr(source, "__dict__", ())


def _bytes_of(source: Any) -> Bytes | ArrayObject:
    try:
        view = memoryview(source)
    except TypeError:
        if hasattr(source, "__array_interface__"):  # of a proxy
            return ArrayObject(source)
        kinds = "bytes-like, a pathlib.Path, a Buffer, a Result, or an array"
        raise InvalidTask(f"a {type(source).__name__} is no source; give something {kinds}") from None
    except (ValueError, BufferError) as error:
        raise InvalidTask(f"the source cannot be read: {error}") from None  # a released memoryview
    return Bytes(_flat(view), private=is_private_memory(view))


def _samples_or_object(source: Any) -> Samples | ArrayObject:
    try:
        view = memoryview(source)
    except (TypeError, ValueError, BufferError):  # ValueError: numpy has no buffer of dates
        return ArrayObject(source)
    shape, dtype, _ = _interface_of(source)
    return _samples(view, shape, dtype)


def samples_of(array: ArrayObject) -> Samples:
    """The samples of an array that is no buffer; blocks while the object copies them.

    Raises:
        InvalidTask: its array interface is broken, or gives no memory.
    """
    shape, dtype, data = _interface_of(array.source)
    _check(shape, dtype)
    if not isinstance(data, bytes):
        kind = type(array.source).__name__
        raise InvalidTask(f"a {kind} does not give its memory: neither as a buffer nor as bytes")
    return _samples(memoryview(data), shape, dtype)


def _absolute(path: os.PathLike[str] | os.PathLike[bytes]) -> str:
    """The path from the root. It is not normalized: ".." after a symbolic link is the file system's to resolve."""
    try:
        return os.path.join(os.getcwd(), os.fsdecode(path))
    except (TypeError, ValueError, OSError) as error:  # no path after all; no text; the working directory is gone
        reason = f"the source {path!r} is no path that can be read: {error}"
        raise InvalidTask(reason, public_message="the source cannot be read") from None


def _interface_of(source: Any) -> tuple[tuple[int, ...], str, object]:
    """Shape, dtype and data of an array interface."""
    try:
        interface = dict(source.__array_interface__)
        return tuple(map(int, interface["shape"])), str(interface["typestr"]), interface.get("data")
    except Exception as error:  # the object's own code
        raise InvalidTask(f"a {type(source).__name__} has a broken array interface: {error!r}") from None


def _samples(view: memoryview, shape: tuple[int, ...], dtype: str) -> Samples:
    nbytes = _check(shape, dtype)
    if view.nbytes != nbytes:
        raise InvalidTask(f"an array of shape {shape} and dtype {dtype!r} has {nbytes} bytes, but there are {view.nbytes}")
    return Samples(_flat(view), shape, dtype, private=is_private_memory(view))


def _check(shape: tuple[int, ...], dtype: str) -> int:
    """The length in bytes of an array that can be sent."""
    try:
        nbytes = itemsize_of(dtype) * prod(shape)
        check_shape(shape, dtype, nbytes)
    except ValueError as error:
        raise InvalidTask(f"an array of shape {shape} and dtype {dtype!r} is no source: {error}") from None
    return nbytes


def _flat(view: memoryview) -> memoryview:
    """The same memory in one dimension, where it is contiguous; nothing is copied."""
    if not view.nbytes:
        return memoryview(b"")
    return view.cast("B") if view.c_contiguous else view
