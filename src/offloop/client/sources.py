"""Kinds of sources, and the classification of a user's object as one of them.

Bytes-like objects are a file's contents, or any bytes; arrays are samples. An array is recognized by the array interface, so
numpy, Pillow and others need not be imported here. Classification copies and reads nothing, because it runs on the event loop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias, cast

import msgspec

from ..errors import InvalidTask
from ..runtime.memory.source_memory import is_private_memory
from ..wire.handles import check_shape, itemsize_of
from .buffers import Buffer
from .results import Result

__all__ = [
    "MAX_SOURCES",
    "ArrayObject",
    "Bytes",
    "File",
    "Material",
    "Samples",
    "Source",
    "TableObject",
    "classify",
    "classify_all",
    "samples_of",
]

MAX_SOURCES = 16  # of one task

Source: TypeAlias = "bytes | bytearray | memoryview | os.PathLike[str] | Buffer | Result | Any"
"""Bytes-like, a path (`pathlib.Path`, not `str`), a `Buffer`, a `Result`, or an object with the array or Arrow interface."""


class Bytes(msgspec.Struct, frozen=True):
    """Bytes in the caller's memory."""

    data: memoryview  # one-dimensional bytes if contiguous; otherwise with the caller's strides
    private: bool  # whether only this process can change the memory; a mapped file may be truncated by another process

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.data.nbytes


class File(msgspec.Struct, frozen=True):
    """A file that is the source."""

    path: str  # absolute path


class Samples(msgspec.Struct, frozen=True):
    """An array in the caller's memory."""

    data: memoryview  # memory of the samples, as in `Bytes`
    shape: tuple[int, ...]  # number of samples along each axis
    dtype: str  # type of a sample, as in the array interface
    private: bool  # whether only this process can change the memory, as in `Bytes`

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.data.nbytes


class ArrayObject(msgspec.Struct, frozen=True):
    """An object that copies its samples when its array interface is read (Pillow), so `samples_of` runs in a thread."""

    source: Any


class TableObject(msgspec.Struct, frozen=True):
    """An object with the Arrow PyCapsule interface, whose data may be made when it is read, so `table_of` runs in a thread."""

    source: Any


Material: TypeAlias = Bytes | File | Samples | ArrayObject | TableObject | Buffer | Result


def classify_all(source: Source, attachments: Sequence[Source] = ()) -> tuple[Material, ...]:
    """Classify the sources of a task: the one of its call, and those of its operations' attachments.

    Raises:
        InvalidTask: an object cannot be a source, or there are too many.
    """
    if not attachments:  # the usual case
        return (classify(source),)
    sources = (classify(source), *map(classify, attachments))
    if len(sources) > MAX_SOURCES:
        raise InvalidTask(f"the task has {len(sources)} sources, and {MAX_SOURCES} is the limit; put several into one")
    return sources


def classify(source: Source) -> Material:
    """Classify a source.

    Raises:
        InvalidTask: the object cannot be a source.
    """
    if type(source) is bytes:  # the usual case, which needs no checks
        return Bytes(memoryview(source), private=True)
    if isinstance(source, Buffer | Result):
        return source
    if isinstance(source, str):
        raise InvalidTask("a str is no source: give pathlib.Path(...) for a file, or bytes for contents")
    if isinstance(source, os.PathLike):
        return File(_absolute(cast("os.PathLike[str] | os.PathLike[bytes]", source)))
    if hasattr(cast("object", source), "__arrow_c_stream__"):
        return TableObject(source)
    return _samples_or_object(source) if _has_array_interface(source) else _bytes_of(source)


def _has_array_interface(source: Any) -> bool:
    """Whether the object has an array interface. Does not read it, because Pillow copies the whole image for that."""
    return hasattr(source.__class__, "__array_interface__") or "__array_interface__" in getattr(source, "__dict__", ())


def _bytes_of(source: Any) -> Bytes | ArrayObject:
    try:
        view = memoryview(source)
    except TypeError:
        if hasattr(source, "__array_interface__"):  # a proxy object
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
    """The samples of an array without a buffer. Blocks while the object copies them.

    Raises:
        InvalidTask: the array interface is broken, or gives no memory.
    """
    shape, dtype, data = _interface_of(array.source)
    _check(shape, dtype)
    if not isinstance(data, bytes):
        kind = type(array.source).__name__
        raise InvalidTask(f"a {kind} does not give its memory: neither as a buffer nor as bytes")
    return _samples(memoryview(data), shape, dtype)


def _absolute(path: os.PathLike[str] | os.PathLike[bytes]) -> str:
    """The absolute path. Not normalized, because the file system resolves ".." after a symbolic link."""
    try:
        return os.path.join(os.getcwd(), os.fsdecode(path))
    except (TypeError, ValueError, OSError) as error:  # not a path; not text; no working directory
        reason = f"the source {path!r} is no path that can be read: {error}"
        raise InvalidTask(reason, public_message="the source cannot be read") from None


def _interface_of(source: Any) -> tuple[tuple[int, ...], str, object]:
    """Shape, dtype and data of an array interface."""
    try:
        interface = dict(source.__array_interface__)
        return tuple(map(int, interface["shape"])), str(interface["typestr"]), interface.get("data")
    except Exception as error:  # raised by the object's own code
        raise InvalidTask(f"a {type(source).__name__} has a broken array interface: {error!r}") from None


def _samples(view: memoryview, shape: tuple[int, ...], dtype: str) -> Samples:
    nbytes = _check(shape, dtype)
    if view.nbytes != nbytes:
        raise InvalidTask(f"an array of shape {shape} and dtype {dtype!r} has {nbytes} bytes, but there are {view.nbytes}")
    return Samples(_flat(view), shape, dtype, private=is_private_memory(view))


def _check(shape: tuple[int, ...], dtype: str) -> int:
    """Check that an array can be sent, and return its length in bytes."""
    try:
        nbytes = itemsize_of(dtype) * prod(shape)
        check_shape(shape, dtype, nbytes)
    except ValueError as error:
        raise InvalidTask(f"an array of shape {shape} and dtype {dtype!r} is no source: {error}") from None
    return nbytes


def _flat(view: memoryview) -> memoryview:
    """The same memory, in one dimension if it is contiguous, without a copy."""
    if not view.nbytes:
        return memoryview(b"")
    return view.cast("B") if view.c_contiguous else view
