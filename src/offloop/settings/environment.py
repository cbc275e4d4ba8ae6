"""Settings of a pool from environment variables: `OFFLOOP_MEMORY_LIMIT=2GiB`.

The table of variables follows from the fields of `PoolSettings`. A list is separated by commas, a dictionary is written as
key=value pairs. A setting that holds objects (`groups`) has no variable.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from ..wire.start import START_MARK, WORKER_ID
from .group_settings import WorkerGroup
from .pool_settings import PoolSettings

__all__ = ["SettingRow", "setting_rows", "settings_of_environment"]

_WORDS_FOR_NONE = ("none", "null")
_OTHER_VARIABLES = {WORKER_ID, START_MARK}  # of a worker's environment
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_SIMILARITY = 0.8  # of a name that is taken for a misspelt setting, from 0 to 1

_T = TypeVar("_T")


class SettingRow(msgspec.Struct, frozen=True):
    """A setting of `Pool`, for tables."""

    name: str  # name of the argument
    variable: str | None  # name of the environment variable, without a prefix; None: there is none
    type: str  # types of the value, as text
    default: Any


def setting_rows() -> tuple[SettingRow, ...]:
    """Return all settings of `Pool`, in the order of `PoolSettings`."""
    return tuple(
        SettingRow(name, name.upper() if _can_be_text(kind) else None, _type_text(kind), default)
        for name, (kind, default) in _fields().items()
    )


def settings_of_environment(environment: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """Return the arguments for `Pool` that the environment has. An empty variable counts as missing.

    Raises:
        ValueError: a value cannot be read, or a variable looks like a misspelt setting. The message names the variable.
    """
    fields = {f"{prefix}{name.upper()}": (name, kind) for name, (kind, _) in _fields().items() if _can_be_text(kind)}
    found: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(prefix) or not text:
            continue
        if variable not in fields:
            close = get_close_matches(variable, fields, 1, _SIMILARITY)
            if close and variable not in _OTHER_VARIABLES:
                raise ValueError(f"the environment variable {variable} is no setting; did you mean {close[0]}?")
            continue  # of another program with the same prefix
        name, kind = fields[variable]
        found[name] = _parsed(variable, text.strip(), kind)
    return found


def _fields() -> dict[str, tuple[Any, Any]]:
    hints = get_type_hints(PoolSettings)
    return {field.name: (hints[field.name], field.default) for field in msgspec.structs.fields(PoolSettings)}


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _can_be_text(kind: Any) -> bool:
    return not any(WorkerGroup in get_args(member) for member in _members(kind))


def _parsed(variable: str, text: str, kind: Any) -> Any:
    members = _members(kind)
    if type(None) in members and text.lower() in _WORDS_FOR_NONE:
        return None
    for parse in (_parse_simple, _parse_collection):
        found, value = parse(variable, text, members)
        if found:
            return value
    raise AssertionError(f"a setting has a type that no text can give: {kind}")


def _parse_simple(variable: str, text: str, members: Sequence[Any]) -> tuple[bool, Any]:
    if bool in members:
        return True, _parse_bool(variable, text)
    literals = [value for member in members if get_origin(member) is Literal for value in get_args(member)]
    if text in literals:
        return True, text
    if int in members and (text.lstrip("+-").isdecimal() or not (str in members or literals)):
        return True, _number(variable, text, int, "a whole number")
    if float in members:
        return True, _number(variable, text, float, "a number")
    return str in members or bool(literals), text  # `Pool` checks it, and names the values


def _parse_collection(variable: str, text: str, members: Sequence[Any]) -> tuple[bool, Any]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    for member in members:
        if get_origin(member) is Mapping:
            values = get_args(member)[1]
            pairs = [part.partition("=") for part in parts]
            if not all(equals for _, equals, _ in pairs):
                raise ValueError(f"{variable}={text!r}: write pairs, as in a=1,b=2")
            texts = {key.strip(): value.strip() for key, _, value in pairs}
            if str in _members(values):
                return True, texts
            return True, {key: _number(variable, value, float, "a number") for key, value in texts.items()}
        if get_origin(member) is Sequence:
            return True, parts
    return False, None


def _parse_bool(variable: str, text: str) -> bool:
    if text.lower() in _TRUE + _FALSE:
        return text.lower() in _TRUE
    raise ValueError(f"{variable}={text!r}: write 1 or 0")


def _number(variable: str, text: str, kind: Callable[[str], _T], what: str) -> _T:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{variable}={text!r}: must be {what}") from None


def _type_text(kind: Any) -> str:
    return ", ".join(
        "None"
        if member is type(None)
        else " or ".join(map(repr, get_args(member)))
        if get_origin(member) is Literal
        else getattr(member, "__name__", str(member))
        for member in _members(kind)
    )
