"""Kinds of values that travel in shared memory beside the encoded value: bytes, views, arrays, pickled arguments.

A kind is recognized by an annotation. It says what is sent instead of the value, and makes the value again at the other end:

- an argument becomes a source of the task, which the worker sees as a payload;
- a result becomes a piece of the task's output.

Short bytes are sent in the encoded value, because that costs less than shared memory.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from inspect import isclass
from typing import Any, ClassVar, get_args, get_origin

import msgspec

from ...buffer_protocol import copy_of
from ...processor import Payload, Raster
from ...wire.handles import check_shape

__all__ = ["PICKLED", "Attached", "Kind", "find_kind"]

_INLINE_NBYTES = 4096  # longest bytes that are sent in the encoded value: about what a copy into shared memory costs


class Attached(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="attached"):
    """Stands in an encoded value for memory that travels beside it, or has its bytes if they are few."""

    index: int = 0  # index of the task's source, or of the piece of the output
    data: bytes | None = None  # the bytes themselves; None: they are in shared memory
    dtype: str = ""  # type of the samples of an array, as in the array interface
    shape: tuple[int, ...] = ()  # shape of an array


class Kind:
    """One kind of values in shared memory. They may stand in a union with every type that msgspec can tell from a structure."""

    attached: ClassVar[type[Attached]]
    """Type that stands for such a value. Each kind has its own, so that a decoder refuses the others."""

    is_slow: bool = False
    """Whether `from_memory` reads all of a part, so that the event loop must not call it for a large one."""

    def accepts(self, value: Any) -> bool:
        """Whether a value is of this kind, where an annotation also allows others."""
        raise NotImplementedError

    def inline(self, value: Any) -> bytes | None:  # noqa: ARG002 (the signature is for subclasses)
        """Returns the bytes of the value, if they are so few that they are sent in the encoded value; otherwise None."""
        return None

    def source_of(self, value: Any) -> Any:
        """Returns the source of the task for an argument.

        Raises:
            TypeError: the value is not of this kind.
        """
        raise NotImplementedError

    def from_inline(self, data: bytes) -> Any:
        """Returns the argument or the part of a result whose bytes were sent in the encoded value.

        Raises:
            TypeError: values of this kind are never sent so.
        """
        raise TypeError(f"{len(data)} bytes are in the value, and must be in shared memory")

    def from_payload(self, payload: Payload) -> Any:
        """Returns the argument, in a worker.

        Raises:
            TypeError: the source is not of this kind.
        """
        raise NotImplementedError

    def memory_of(self, value: Any, index: int, allocate: Callable[[int], memoryview]) -> tuple[memoryview, Attached]:
        """Returns the memory of a part of a result, in one dimension, and what stands for it.

        Args:
            value: the part.
            index: its index.
            allocate: returns shared memory of so many bytes, for a part that must be written anyway.

        Raises:
            TypeError: the value cannot be sent.
        """
        raise NotImplementedError

    def from_memory(self, memory: memoryview, attached: Attached) -> Any:
        """Returns a part of a result, in the server.

        Raises:
            ValueError: the memory is not what was announced.
        """
        raise NotImplementedError


class _AttachedBytes(Attached, frozen=True, tag="bytes"):
    pass


class _AttachedArray(Attached, frozen=True, tag="array"):
    pass


class _AttachedPickle(Attached, frozen=True, tag="pickle"):
    pass


class _Bytes(Kind):
    """`bytes`, `bytearray` and `memoryview`. Only a memoryview is given without a copy, because the others own their memory."""

    attached = _AttachedBytes

    def __init__(self, type_: type) -> None:
        self._type = type_
        self.is_slow = type_ is not memoryview

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bytes | bytearray | memoryview) or hasattr(value, "__fspath__") or hasattr(value, "nbytes")

    def inline(self, value: Any) -> bytes | None:
        if not isinstance(value, bytes | bytearray | memoryview):
            return None
        view: memoryview = memoryview(value)  # pyright: ignore[reportUnknownArgumentType] (of a memoryview)
        return bytes(view) if view.nbytes <= _INLINE_NBYTES else None

    def from_inline(self, data: bytes) -> Any:
        return self._from_view(memoryview(data))

    def source_of(self, value: Any) -> Any:
        return value

    def from_payload(self, payload: Payload) -> Any:
        return self._from_view(memoryview(payload.data))

    def memory_of(
        self,
        value: Any,
        index: int,
        allocate: Callable[[int], memoryview],  # noqa: ARG002 (it has its memory)
    ) -> tuple[memoryview, Attached]:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"a {type(value).__name__} is not bytes-like")
        view: memoryview = memoryview(value)  # pyright: ignore[reportUnknownArgumentType] (of a memoryview)
        flat = view.cast("B") if view.c_contiguous and view.nbytes else memoryview(bytes(view))
        return flat, _AttachedBytes(index=index)

    def from_memory(self, memory: memoryview, attached: Attached) -> Any:  # noqa: ARG002 (the signature is the base's)
        return self._from_view(memory)

    def _from_view(self, view: memoryview) -> Any:
        return view if self._type is memoryview else copy_of(view, self._type)


class _Array(Kind):
    """`numpy.ndarray`, also with a type of samples: `numpy.typing.NDArray[numpy.uint8]`. It is read-only at the other end."""

    attached = _AttachedArray

    def __init__(self, scalar: type | None) -> None:
        self._scalar = scalar  # numpy type of the samples; None: any

    def accepts(self, value: Any) -> bool:
        return hasattr(value, "__array_interface__") or getattr(value, "raster", None) is not None

    def source_of(self, value: Any) -> Any:
        if not self.accepts(value):
            raise TypeError(f"Expected an array, got `{type(value).__name__}`")
        dtype = getattr(value, "dtype", None)
        if dtype is not None:
            self._check_scalar(dtype.type)
        return value

    def from_payload(self, payload: Payload) -> Any:
        import numpy as np  # noqa: PLC0415 (only functions with arrays need it)

        if not isinstance(payload, Raster):
            raise TypeError("Expected an array, got bytes")
        array = np.frombuffer(payload.data, dtype=payload.dtype).reshape(payload.shape)
        self._check_scalar(array.dtype.type)
        return array

    def memory_of(
        self,
        value: Any,
        index: int,
        allocate: Callable[[int], memoryview],  # noqa: ARG002 (it has its memory)
    ) -> tuple[memoryview, Attached]:
        import numpy as np  # noqa: PLC0415 (imported already, because the value is of it)

        array: Any = value
        if not isinstance(array, np.ndarray):
            raise TypeError(f"a {type(value).__name__} is not an array")
        array = np.ascontiguousarray(array).reshape(array.shape)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType, reportUnknownVariableType]
        check_shape(array.shape, array.dtype.str, array.nbytes)
        flat = memoryview(array.reshape(-1).view(np.uint8)) if array.nbytes else memoryview(b"")
        return flat, _AttachedArray(index=index, dtype=array.dtype.str, shape=array.shape)

    def from_memory(self, memory: memoryview, attached: Attached) -> Any:
        import numpy as np  # noqa: PLC0415 (the server's annotation has imported it)

        check_shape(attached.shape, attached.dtype, memory.nbytes)
        array = np.frombuffer(memory, dtype=attached.dtype).reshape(attached.shape)
        self._check_scalar(array.dtype.type)
        return array

    def _check_scalar(self, found: type) -> None:
        if self._scalar is not None and not issubclass(found, self._scalar):
            raise TypeError(f"Expected an array of `{self._scalar.__name__}`, got `{found.__name__}`")


class _Pickled(Kind):
    """An argument of any type, pickled by the server and unpickled by the worker. No result is of this kind."""

    attached = _AttachedPickle

    def accepts(self, value: Any) -> bool:  # noqa: ARG002 (the signature is the base's)
        return True

    def inline(self, value: Any) -> bytes | None:
        pickled = self.source_of(value)
        return pickled if len(pickled) <= _INLINE_NBYTES else None

    def source_of(self, value: Any) -> Any:
        try:
            return pickle.dumps(value, protocol=5)
        except Exception as error:  # raised by the value's own code
            raise TypeError(f"cannot be pickled: {error}") from None

    def from_inline(self, data: bytes) -> Any:
        return pickle.loads(data)  # noqa: S301 (in a worker, and made by the server)

    def from_payload(self, payload: Payload) -> Any:
        return pickle.loads(payload.data)  # noqa: S301 (in a worker, and made by the server)


PICKLED = _Pickled()
"""Kind of the arguments of `@function(pickle="arguments")` that msgspec cannot carry."""

_BYTES_KINDS = {type_: _Bytes(type_) for type_ in (bytes, bytearray, memoryview)}


def _without_alias(annotation: Any) -> Any:
    """Returns an annotation without the names that `type` statements gave it: those of numpy are such on Python 3.12."""
    while type(named := get_origin(annotation) or annotation).__name__ == "TypeAliasType":
        arguments = get_args(annotation)
        annotation = named.__value__[arguments] if arguments else named.__value__
    return annotation


def find_kind(annotation: Any) -> Kind | None:
    """Returns the kind of values in shared memory that an annotation names; None if it names no such kind."""
    annotation = _without_alias(annotation)
    if annotation in _BYTES_KINDS:
        return _BYTES_KINDS[annotation]
    numpy: Any = sys.modules.get("numpy")  # an annotation of numpy has imported it
    if numpy is not None and numpy.ndarray in (annotation, get_origin(annotation)):
        return _Array(_scalar_of(annotation, numpy))
    return None


def _scalar_of(annotation: Any, numpy: Any) -> type | None:
    for dtype in get_args(annotation)[1:]:
        for scalar in get_args(dtype):
            if isclass(scalar) and issubclass(scalar, numpy.generic):
                return scalar
    return None
