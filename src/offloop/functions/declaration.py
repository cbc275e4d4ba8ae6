"""The decorator `@offloop.function`: declares that a function may run in workers, and its limits.

A worker calls a function by its import path. The decorator is the list of allowed functions: a path that leads to anything
else is refused, unless `Pool(functions=[...])` names its module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from inspect import getattr_static
from types import EllipsisType
from typing import Any, Literal, TypeVar, overload

import msgspec

from ..sandbox import Needs
from ..sizes import named_size
from .reference import find_objection

__all__ = ["UNDECLARED", "FunctionOptions", "declared_functions", "find_options", "function"]

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

_MARK = "__offloop_function__"  # attribute of a declared function: its options
_MAX_SECONDS = 1e9

_declared: dict[str, Callable[..., Any]] = {}  # declared functions by module and qualified name


class FunctionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `@offloop.function` says about a function."""

    memory_bytes: int | None = None  # peak of private memory of a call, in bytes; None: it is learned
    timeout_s: float | EllipsisType | None = ...  # seconds that a call may run; None: no limit; `...`: the pool's default
    preload: tuple[str, ...] = ()  # modules that a worker imports before it is ready
    pickles_arguments: bool = False  # whether arguments that msgspec cannot carry are pickled
    needs: Needs = Needs()  # what the sandbox of the workers allows beside imports


UNDECLARED = FunctionOptions()
"""Options of a function without the decorator."""


@overload
def function(target: FunctionT, /) -> FunctionT: ...


@overload
def function(
    *,
    memory: int | str | None = None,
    timeout: float | EllipsisType | None = ...,
    preload: Sequence[str] = (),
    pickle: Literal["arguments"] | None = None,
    network: bool = False,
    read: Sequence[str | os.PathLike[str]] = (),
    write: Sequence[str | os.PathLike[str]] = (),
) -> Callable[[FunctionT], FunctionT]: ...


def function(
    target: Callable[..., Any] | None = None,
    /,
    *,
    memory: int | str | None = None,
    timeout: float | EllipsisType | None = ...,
    preload: Sequence[str] = (),
    pickle: Literal["arguments"] | None = None,
    network: bool = False,
    read: Sequence[str | os.PathLike[str]] = (),
    write: Sequence[str | os.PathLike[str]] = (),
) -> Any:
    """Declare that a function may run in workers: `await pool.call(function, ...)`. The function itself does not change.

        @function(memory="400MiB", timeout=20, preload=["pypdfium2"])
        def render_page(pdf: memoryview, page: int, scale: float = 2.0) -> bytes: ...

    A worker imports the function by its module and name, so it must be at the top level of a module. Its annotations say what
    is sent: every type of msgspec (numbers, texts, dataclasses, attrs, enums, dates, decimals, typed dicts, unions), and in
    shared memory `bytes`, `memoryview`, `numpy.ndarray` and Arrow tables. A parameter without an annotation takes plain values.
    A parameter annotated `offloop.Context` gets the running task.

    Args:
        target: the function, if the decorator is used without parentheses.
        memory: peak of private memory of one call, in bytes or as in "400MiB". The pool runs as many calls at once as fit into
            its `memory_limit`. None: learned from calls.
        timeout: seconds that a call may run; None: no limit. Default: the pool's.
        preload: names of modules that a worker imports before its first task.
        pickle: "arguments": arguments that have no annotation, or a type that msgspec cannot carry, are pickled by the server
            and unpickled by the worker. Results are never pickled.
        network: whether it connects to other hosts.
        read, write: paths of files and directories that it reads, or reads and writes. Relative paths are taken from the
            current directory. All functions of a pool share workers, whose sandbox allows what any of them needs.

    Raises:
        TypeError: it is no function that a worker can import, or has an annotation of which no value can be sent.
        ValueError: an option is out of its range.
    """
    if pickle not in (None, "arguments"):
        raise ValueError(f"pickle={pickle!r}: must be 'arguments' or None, because the server never unpickles anything")
    if isinstance(preload, str) or not all(isinstance(name, str) for name in preload):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"preload={preload!r}: give a list of names of modules")
    options = FunctionOptions(
        memory_bytes=None if memory is None else _checked_memory(memory),
        timeout_s=_checked_timeout(timeout),
        preload=tuple(preload),
        pickles_arguments=pickle is not None,
        needs=Needs(network=network, read=_absolute("read", read), write=_absolute("write", write)),
    )

    def declare(target: FunctionT) -> FunctionT:
        return _declare(target, options)

    return declare if target is None else declare(target)


def find_options(target: Any) -> FunctionOptions | None:
    """Returns the options of a declared function; None if it is not declared."""
    options = getattr_static(target, _MARK, None)
    return options if isinstance(options, FunctionOptions) else None


def declared_functions() -> list[Callable[..., Any]]:
    """Returns the functions that this process has declared until now."""
    return list(_declared.values())


def _declare(target: FunctionT, options: FunctionOptions) -> FunctionT:
    from .encoding.signature import check_annotations  # noqa: PLC0415 (it is needed when a function is declared, not for its options)

    objection = find_objection(target)
    if objection is not None:
        raise TypeError(f"@offloop.function: {objection}")
    check_annotations(target, pickles_arguments=options.pickles_arguments)
    setattr(target, _MARK, options)
    _declared[f"{target.__module__}:{target.__qualname__}"] = target
    return target


def _absolute(name: str, paths: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    if isinstance(paths, str) or not all(isinstance(path, str | os.PathLike) for path in paths):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name}={paths!r}: give a list of paths")
    return tuple(os.path.abspath(os.fspath(path)) for path in paths)


def _checked_memory(memory: int | str) -> int:
    nbytes = named_size("memory", memory)
    if isinstance(memory, bool) or nbytes < 1:
        raise ValueError(f"memory={memory!r}: must be at least one byte")
    return nbytes


def _checked_timeout(timeout: Any) -> float | EllipsisType | None:
    if timeout is ... or timeout is None:
        return timeout
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout={timeout!r}: must be a number of seconds, or None")
    if not 0 <= timeout <= _MAX_SECONDS:
        raise ValueError(f"timeout={timeout!r}: must be from 0 to {_MAX_SECONDS:,.0f} seconds")
    return float(timeout)
