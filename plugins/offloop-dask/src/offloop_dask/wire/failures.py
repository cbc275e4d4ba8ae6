"""Errors as data: an error of offloop is sent as its type's name, its text, its fields and its notes, and never pickled."""

from __future__ import annotations

import inspect
import signal as signals
from collections.abc import Mapping
from typing import Any

import msgspec

from offloop import errors
from offloop.errors import CrashReport, InternalError, OffloopError

__all__ = ["decode_error", "encode_error"]

_MAX_TEXT = 24 * 1024  # characters of a text: the limit of a worker's error texts

_KINDS: Mapping[str, type[OffloopError]] = {
    name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, OffloopError)
}


class _Failure(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    kind: str
    arguments: list[Any]
    fields: dict[str, Any]
    notes: list[str]


_decoder = msgspec.msgpack.Decoder(_Failure)


def encode_error(error: BaseException) -> bytes:
    """The encoding of an error. One that is not of offloop becomes an `InternalError` with its type and its text."""
    if not isinstance(error, OffloopError):
        error = InternalError(f"{type(error).__name__}: {error}")
    kind = next(base.__name__ for base in type(error).__mro__ if _KINDS.get(base.__name__) is base)
    fields = {name: value for name, value in error.__dict__.items() if name != "__notes__"}
    notes = [note[:_MAX_TEXT] for note in getattr(error, "__notes__", ())]
    arguments = [_plain(argument) for argument in error.args]
    return msgspec.msgpack.encode(_Failure(kind, arguments, {name: _plain(value) for name, value in fields.items()}, notes))


def decode_error(encoded: bytes) -> OffloopError:
    """The error of an encoding. An encoding that is not valid is an `InternalError`."""
    try:
        failure = _decoder.decode(encoded)
        kind = _KINDS[failure.kind]
        fields = {name: _restored(name, value) for name, value in failure.fields.items()}
    except (msgspec.DecodeError, KeyError, ValueError, TypeError) as error:
        return InternalError(f"a node has sent an error that cannot be read: {error}")
    base: Any = kind
    while base.__module__ != "builtins":  # the exception whose `__new__` accepts `kind`
        base = base.__base__
    restored: OffloopError = base.__new__(kind)  # without `__init__`, which would build the text again
    restored.args = tuple(failure.arguments)
    restored.__dict__.update(fields)
    for note in failure.notes:
        restored.add_note(note)
    return restored


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, CrashReport):
        return msgspec.to_builtins(value)
    return value if isinstance(value, int | float | None) else str(value)[:_MAX_TEXT]


def _restored(name: str, value: Any) -> Any:
    if name == "report" and value is not None:
        return msgspec.convert(value, CrashReport)
    if name == "signal" and value is not None:
        try:
            return signals.Signals(value)
        except ValueError:  # a real-time signal
            return int(value)
    if not isinstance(value, str | int | float | bool | None):
        raise TypeError(f"the field {name!r} is a {type(value).__name__}")
    return value
