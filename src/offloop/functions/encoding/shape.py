"""Typed values: translates an annotation to the type on the wire, and moves values in shared memory out of a value and back.

`Shape` is compiled once from an annotation. Values of a `Kind` may stand alone, in a union, or inside lists, tuples and
dictionaries. Inside dataclasses and other structures, only the types of msgspec are possible.
"""

from __future__ import annotations

import os
import pathlib
import types
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Annotated, Any, TypeAlias, Union, cast, get_args, get_origin

from msgspec import inspect as type_inspection

from .kinds import PICKLED, Attached, Kind
from .kinds import find_kind as find_simple_kind
from .tables import find_table_kind

__all__ = ["Attach", "Restore", "Shape", "decode_custom", "encode_custom"]

Attach: TypeAlias = Callable[[Kind, Any], Any]
"""Takes a value of a kind out; returns what stands for it."""

Restore: TypeAlias = Callable[[Kind, Attached], Any]
"""Returns the value for which an `Attached` stands."""

_Walk: TypeAlias = Callable[[Any, Callable[[Kind, Any], Any]], Any]
"""Walks over a value: the function is called with each place where a value of a kind may be; returns the changed value."""

_PATHS = (pathlib.Path, pathlib.PurePath, pathlib.PosixPath)


class Shape:
    """How values of one annotation are sent.

    Raises:
        TypeError: no value of the annotation can be sent; the text contains the reason.
    """

    def __init__(self, annotation: Any, *, pickles: bool = False) -> None:
        """Compile the annotation. `pickles`: if msgspec cannot carry the type, or there is none, values are pickled."""
        if pickles and annotation is Any:
            self.wire_type, self._walk, self._kinds = PICKLED.attached, _walk_kind(PICKLED), [PICKLED]
            return
        try:
            self.wire_type, self._walk = _compile(annotation)
            _check(self.wire_type)
            self._kinds = _kinds_in(annotation)
        except TypeError:
            if not pickles:
                raise
            self.wire_type, self._walk, self._kinds = PICKLED.attached, _walk_kind(PICKLED), [PICKLED]

    @property
    def has_attached(self) -> bool:
        """Whether a value may have parts in shared memory."""
        return self._walk is not None

    @property
    def is_slow(self) -> bool:
        """Whether restoring a large value takes so long that the event loop must not do it."""
        return any(kind.is_slow for kind in self._kinds)

    def detach(self, value: Any, attach: Attach) -> Any:
        """Returns the value with each part that belongs into shared memory replaced.

        Raises:
            TypeError: a part is not of the kind that the annotation names.
        """
        if self._walk is None:
            return value

        def replace(kind: Kind, part: Any) -> Any:
            data = kind.inline(part)
            return attach(kind, part) if data is None else kind.attached(data=data)

        return self._walk(value, replace)

    def restore(self, value: Any, restore: Restore) -> Any:
        """Returns a decoded value with each `Attached` replaced by the value for which it stands."""
        if self._walk is None:
            return value

        def replace(kind: Kind, part: Any) -> Any:
            return restore(kind, part) if part.data is None else kind.from_inline(part.data)

        return self._walk(value, replace)


def encode_custom(value: Any) -> Any:
    """Encodes paths as texts and scalars of numpy as numbers: the hook of encoders.

    Raises:
        TypeError: the value cannot be sent.
    """
    if isinstance(value, pathlib.PurePath):
        return os.fspath(value)
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return value.item()
    cure = "; annotate it as numpy.ndarray" if hasattr(value, "__array_interface__") else ""
    raise TypeError(f"a {type(value).__name__} cannot be sent{cure}")


def decode_custom(type_: type, value: Any) -> Any:
    """Decodes paths: the hook of decoders.

    Raises:
        TypeError: the value is no text.
    """
    if not isinstance(value, str):
        raise TypeError(f"Expected a path, got `{type(value).__name__}`")
    return type_(value)


def find_kind(annotation: Any) -> Kind | None:
    """Returns the kind of values in shared memory that an annotation names; None if it names no such kind."""
    return find_simple_kind(annotation) or find_table_kind(annotation)


def _kinds_in(annotation: Any) -> list[Kind]:
    kind = find_kind(annotation)
    return [kind] if kind is not None else [inner for argument in get_args(annotation) for inner in _kinds_in(argument)]


def _compile(annotation: Any) -> tuple[Any, _Walk | None]:
    """Returns the type on the wire, and the walk; None if no part of a value is of a kind."""
    kind = find_kind(annotation)
    if kind is not None:
        return kind.attached, _walk_kind(kind)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        wire, walk = _compile(arguments[0])
        return (annotation, None) if walk is None else (wire, walk)
    compile_container = _CONTAINERS.get(origin)
    return (annotation, None) if compile_container is None else compile_container(annotation, arguments)


def _compile_list(annotation: Any, arguments: tuple[Any, ...]) -> tuple[Any, _Walk | None]:
    wire, walk = _compile(arguments[0])
    if walk is None:
        return annotation, None

    def walk_list(value: Any, replace: Callable[[Kind, Any], Any]) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [walk(part, replace) for part in cast("list[Any]", value)]

    return list[wire], walk_list


def _compile_tuple(annotation: Any, arguments: tuple[Any, ...]) -> tuple[Any, _Walk | None]:
    is_endless = len(arguments) == 2 and arguments[1] is ...  # noqa: PLR2004 (tuple[T, ...])
    parts = [_compile(argument) for argument in (arguments[:1] if is_endless else arguments)]
    if all(walk is None for _, walk in parts):
        return annotation, None
    walks = [walk for _, walk in parts]

    def walk_tuple(value: Any, replace: Callable[[Kind, Any], Any]) -> Any:
        if not isinstance(value, tuple | list):
            return value
        items = tuple(cast("tuple[Any, ...]", value))
        chosen: Iterable[_Walk | None] = walks * len(items) if is_endless else walks
        if not is_endless and len(items) != len(walks):
            return items  # the decoder refuses it
        return tuple(part if walk is None else walk(part, replace) for part, walk in zip(items, chosen, strict=True))

    wires = tuple(wire for wire, _ in parts)
    return (tuple[(*wires, ...)] if is_endless else tuple[wires]), walk_tuple  # pyright: ignore[reportInvalidTypeForm]


def _compile_dict(annotation: Any, arguments: tuple[Any, ...]) -> tuple[Any, _Walk | None]:
    wire, walk = _compile(arguments[1])
    if walk is None:
        return annotation, None

    def walk_dict(value: Any, replace: Callable[[Kind, Any], Any]) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: walk(part, replace) for key, part in cast("dict[Any, Any]", value).items()}

    return dict[arguments[0], wire], walk_dict


def _compile_union(annotation: Any, arguments: tuple[Any, ...]) -> tuple[Any, _Walk | None]:
    parts = [_compile(argument) for argument in arguments]
    if all(walk is None for _, walk in parts):
        return annotation, None
    members = list(zip(arguments, [walk for _, walk in parts], strict=True))

    def walk_union(value: Any, replace: Callable[[Kind, Any], Any]) -> Any:
        for member, walk in members:
            if walk is not None and _is_of_member(value, member):
                return walk(value, replace)
        return value

    return reduce(_union_of, (wire for wire, _ in parts)), walk_union


def _union_of(first: Any, second: Any) -> Any:
    return first | second


_CONTAINERS: dict[Any, Callable[[Any, tuple[Any, ...]], tuple[Any, _Walk | None]]] = {
    list: _compile_list,
    tuple: _compile_tuple,
    dict: _compile_dict,
    Union: _compile_union,
    types.UnionType: _compile_union,
}


def _is_of_member(value: Any, member: Any) -> bool:
    kind = find_kind(member)
    if kind is not None:
        return isinstance(value, kind.attached) or kind.accepts(value)
    origin = get_origin(member)
    return isinstance(origin, type) and isinstance(value, origin)


def _walk_kind(kind: Kind) -> _Walk:
    def walk(value: Any, replace: Callable[[Kind, Any], Any]) -> Any:
        return replace(kind, value)

    return walk


def _check(wire_type: Any) -> None:
    """Check that msgspec can carry all values of a type.

    Raises:
        TypeError: it cannot.
    """
    pending, seen = [type_inspection.type_info(wire_type)], set[int]()
    while pending:
        found: Any = pending.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, type_inspection.CustomType) and found.cls not in _PATHS:
            raise TypeError(f"{found.cls!r} cannot be sent: use a type of msgspec such as a dataclass, bytes or an array")
        pending += _parts_of(found)


def _parts_of(found: Any) -> list[Any]:
    """Returns the types inside a type."""
    parts: list[Any] = []
    for name in getattr(found, "__struct_fields__", ()):
        value = getattr(found, name)
        for item in cast("tuple[Any, ...]", value if isinstance(value, tuple) else (value,)):
            inner = item.type if isinstance(item, type_inspection.Field) else item
            if isinstance(inner, type_inspection.Type):
                parts.append(inner)
    return parts
