"""The signature of a function as a msgspec struct: encodes arguments in the server, decodes them strictly in a worker."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, get_args

import msgspec

from ...errors import InvalidTask
from ...processor import Payload
from ..context import Context
from ..resource import find_resource
from .kinds import Attached, Kind
from .shape import Shape, decode_custom, encode_custom

__all__ = ["CALL_OPTIONS", "EncodedArguments", "Signature", "check_annotations"]

CALL_OPTIONS = frozenset(
    (
        "buffer",
        "frame_timeout",
        "idle_timeout",
        "memory_limit",
        "on_progress",
        "overrun",
        "priority",
        "queue_timeout",
        "retries",
        "tenant",
        "timeout",
    )
)
"""Names of keywords that belong to `Pool.call` and `Pool.stream_call`."""

_PATH = re.compile(r"^(?P<reason>.*) - at `\$\.(?P<parameter>\w+)(?P<rest>[^`]*)`$", re.DOTALL)
_CHECKED_NBYTES = 64 * 1024  # longest encoded arguments that the server decodes to check them: about 0.3 ms


_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class EncodedArguments(NamedTuple):
    """The arguments of one call."""

    encoded: bytes  # encoded values by name of the parameter
    sources: list[Any]  # arguments that are sources of the task


class Parameter(NamedTuple):
    """One parameter of a function."""

    name: str
    shape: Shape | None  # None: the worker gives its value, and callers do not
    annotation: Any


class Signature:
    """How a function is called. Made once for each function, in the server and in each worker.

    Raises:
        TypeError: an annotation cannot be resolved, or no value of it can be sent; the text names the parameter.
    """

    def __init__(self, target: Callable[..., Any], name: str, *, pickles_arguments: bool = False) -> None:
        self.name = name  # name of the function in messages
        self._inspected = _inspect(target, name)
        self.is_generator = inspect.isgeneratorfunction(inspect.unwrap(target))
        self._parameters = {
            parameter.name: _parameter_of(parameter, name, pickles=pickles_arguments)
            for parameter in self._inspected.parameters.values()
        }
        given = [one for one in self._inspected.parameters.values() if self._parameters[one.name].shape is not None]
        self._callable = self._inspected.replace(parameters=given)  # as callers see it
        self._names = tuple([one.name for one in given if one.kind in _BY_POSITION])
        self._binds_by_position = len(self._names) == len(given)
        self._binds_by_name = all(one.kind in _BY_NAME for one in self._inspected.parameters.values())
        self._shapes = {one.name: one.shape for one in self._parameters.values() if one.shape is not None}
        self._is_plain = not any(shape.has_attached for shape in self._shapes.values())  # no value has parts in shared memory
        self._encoder = msgspec.msgpack.Encoder(enc_hook=encode_custom)
        struct = _struct_of(self._shapes, given)
        self._may_be_unset = any(field.default is msgspec.UNSET for field in msgspec.structs.fields(struct))
        self._decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(struct, dec_hook=decode_custom)

    # in the server

    def encode(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> EncodedArguments:
        """Check and encode arguments.

        Raises:
            InvalidTask: an argument is missing, is not known, or has the wrong type. The text names it.
        """
        if self._binds_by_position and not keywords and len(arguments) == len(self._names):
            bound: Mapping[str, Any] = dict(zip(self._names, arguments, strict=True))  # saves 5 us
        else:
            bound = self._bind(arguments, keywords)
        if self._is_plain:
            encoded = self._encode(bound)
            if len(encoded) <= _CHECKED_NBYTES:
                self._decode(encoded)
            return EncodedArguments(encoded, [])
        sources: list[Any] = []

        def attach(kind: Kind, value: Any) -> Any:
            sources.append(kind.source_of(value))
            return kind.attached(index=len(sources) - 1)

        values: dict[str, Any] = {}
        for name, value in bound.items():
            try:
                values[name] = self._shapes[name].detach(value, attach)
            except TypeError as error:
                raise self._refusal(name, str(error)) from None
        encoded = self._encode(values)
        if len(encoded) <= _CHECKED_NBYTES:
            self._decode(encoded)
        return EncodedArguments(encoded, sources)

    def _bind(self, arguments: Sequence[Any], keywords: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            return self._callable.bind(*arguments, **keywords).arguments
        except TypeError as error:
            raise InvalidTask(f"{self.name}{self._callable}: {error}") from None

    def _encode(self, values: Mapping[str, Any]) -> bytes:
        try:
            return self._encoder.encode(values)
        except (TypeError, ValueError, OverflowError, RecursionError):
            for name, value in values.items():
                self._encode_one(name, value)
            raise

    def _encode_one(self, name: str, value: Any) -> None:
        try:
            self._encoder.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise self._refusal(name, str(error)) from None

    @cached_property
    def result(self) -> Shape:
        """How results are sent; of a generator function, each of its values.

        Raises:
            TypeError: no value of the annotation can be sent.
        """
        annotation = self._inspected.return_annotation
        if self.is_generator:
            annotation = (get_args(annotation) or (Any,))[0]
        return Shape(Any if annotation is inspect.Signature.empty else annotation)

    # in a worker

    def decode(self, encoded: bytes, sources: Sequence[Payload]) -> dict[str, Any]:
        """Decode arguments strictly. Returns them by name.

        Raises:
            InvalidTask: an argument has the wrong type. The text names it.
        """
        arguments = self._decode(encoded)
        if self._is_plain:
            values = msgspec.structs.asdict(arguments)
            if self._may_be_unset:
                values = {name: value for name, value in values.items() if value is not msgspec.UNSET}
            return values

        def restore(kind: Kind, attached: Attached) -> Any:
            return kind.from_payload(sources[attached.index])

        decoded: dict[str, Any] = {}
        for name, shape in self._shapes.items():
            value = getattr(arguments, name)
            if value is not msgspec.UNSET:
                try:
                    decoded[name] = shape.restore(value, restore)
                except TypeError as error:
                    raise self._refusal(name, str(error)) from None
        return decoded

    def given_by_worker(self) -> Iterator[tuple[str, Any]]:
        """Yields the names and annotations of the parameters whose values the worker gives."""
        for parameter in self._parameters.values():
            if parameter.shape is None:
                yield parameter.name, parameter.annotation

    def bind(self, values: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Returns the positional arguments and those by keyword, from values by name."""
        if self._binds_by_name:
            return (), values
        bound: Any = {name: values[name] for name in self._inspected.parameters if name in values}
        arguments = inspect.BoundArguments(self._inspected, bound)
        return arguments.args, arguments.kwargs

    def _decode(self, encoded: bytes) -> Any:
        try:
            return self._decoder.decode(encoded)
        except (msgspec.DecodeError, TypeError, RecursionError) as error:
            found = _PATH.match(str(error))
            if found is None:
                raise InvalidTask(f"{self.name}: {error}") from None
            raise self._refusal(found["parameter"], found["reason"], found["rest"]) from None

    def _refusal(self, parameter: str, reason: str, path: str = "") -> InvalidTask:
        return InvalidTask(f"{self.name}: the argument {parameter}{path}: {reason}")


def check_annotations(target: Callable[..., Any], *, pickles_arguments: bool) -> None:
    """Check that values of all annotations can be sent. Names that are not defined yet are checked at the first call.

    Raises:
        TypeError: one cannot; the text names the parameter.
    """
    name = f"{target.__module__}.{target.__qualname__}"
    try:
        signature = Signature(target, name, pickles_arguments=pickles_arguments)
        _ = signature.result
    except NameError:
        pass
    except TypeError as error:
        raise TypeError(f"@offloop.function: {error}") from None


def _inspect(target: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        return inspect.signature(target, eval_str=True)
    except ValueError as error:  # a builtin function
        raise TypeError(f"{name} has no signature that can be read: {error}") from None
    except NameError:
        raise
    except Exception as error:  # raised by an annotation
        raise TypeError(f"{name}: an annotation cannot be resolved: {error}") from None


def _parameter_of(parameter: inspect.Parameter, name: str, *, pickles: bool) -> Parameter:
    annotation = Any if parameter.annotation is inspect.Parameter.empty else parameter.annotation
    if annotation is Context or find_resource(annotation) is not None:
        return Parameter(parameter.name, None, annotation)
    if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name in CALL_OPTIONS:
        raise TypeError(f"{name}: the parameter {parameter.name} has the name of an option of Pool.call; rename it")
    is_pickled = pickles and annotation is Any  # all values together, if there are several
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL and not is_pickled:
        annotation = tuple[annotation, ...]
    elif parameter.kind is inspect.Parameter.VAR_KEYWORD and not is_pickled:
        annotation = dict[str, annotation]
    try:
        return Parameter(parameter.name, Shape(annotation, pickles=pickles), annotation)
    except TypeError as error:
        raise TypeError(f"{name}: the parameter {parameter.name}: {error}") from None


def _struct_of(shapes: Mapping[str, Shape], parameters: Sequence[inspect.Parameter]) -> type[msgspec.Struct]:
    """Returns the struct of the arguments. A parameter with a default may be missing, because the function has it."""
    fields: list[Any] = []
    for parameter in parameters:
        is_optional = parameter.default is not inspect.Parameter.empty or parameter.kind in (
            inspect.Parameter.VAR_POSITIONAL,
            inspect.Parameter.VAR_KEYWORD,
        )
        field: tuple[Any, ...] = (parameter.name, shapes[parameter.name].wire_type)
        fields.append((*field, msgspec.UNSET) if is_optional else field)
    return msgspec.defstruct("Arguments", fields, kw_only=True, forbid_unknown_fields=True)
