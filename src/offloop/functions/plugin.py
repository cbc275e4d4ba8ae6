"""The plugin of functions: its one operation, and the settings with which its workers start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ..errors import InvalidTask
from ..operation import Estimate, Header, Operation, Plugin
from ..sandbox import Needs, loaded_code
from .declaration import declared_functions, find_options
from .reference import module_of, reference_of
from .resource import declared_resources, load_timeout_of

__all__ = ["Call", "FunctionSettings", "FunctionsPlugin", "is_in_modules"]


class Call(Operation, frozen=True):
    """Call a function with encoded arguments. `Pool.call` makes it."""

    function: str  # import path of the function
    arguments: bytes  # arguments, encoded by `Signature.encode`
    memory_bytes: int | None = None  # declared peak of private memory, in bytes; None: it is learned

    def __post_init__(self) -> None:
        """Nothing is checked here, because `Callee.call` makes the fields, and a worker's decoder checks their types."""

    def cost_kind(self) -> str:
        """The function, because its calls cost about the same."""
        return self.function


class FunctionSettings(msgspec.Struct, frozen=True):
    """What the workers of functions load before they are ready."""

    modules: tuple[str, ...] = ()  # modules whose functions need no decorator
    preload: tuple[str, ...] = ()  # modules to import
    functions: tuple[str, ...] = ()  # import paths of the functions that were declared when the pool was entered


class FunctionsPlugin(Plugin):
    """Runs importable functions, in workers of their own."""

    name = "functions"
    operations = (Call,)
    processor = "offloop.functions.processor:FunctionProcessor"
    probe_nbytes = 0
    group = "functions"

    def __init__(self, modules: Iterable[str] = ()) -> None:
        """Record the functions that are declared now. `modules`: names of modules whose functions need no decorator."""
        preload: dict[str, None] = {}
        references: list[str] = []
        for function in declared_functions():
            options = find_options(function)
            preload.update(dict.fromkeys(() if options is None else options.preload))
            reference = _find_reference(function)
            if reference is not None:
                references.append(reference)
        modules = tuple(modules)
        preload.update(dict.fromkeys(modules))
        self.settings = FunctionSettings(modules, tuple(preload), tuple(references))
        self.load_timeout = sum(load_timeout_of(one) or 0.0 for one in declared_resources())

    @property
    def needs(self) -> Needs:  # pyright: ignore[reportIncompatibleVariableOverride] (a property is allowed)
        """What the functions need that are declared now, and late imports, because a function may be imported by its call: of
        installed packages, and of the modules that the server has loaded."""
        needs = Needs(modules=True, read=tuple(path for path in loaded_code() if not _is_installed(path)))
        for function in declared_functions():
            options = find_options(function)
            needs = needs if options is None else needs.union(options.needs)
        return needs

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:  # noqa: ARG002
        """The declared memory. The pool learns the time, and memory that is not declared."""
        peaks = [operation.memory_bytes for operation in operations if isinstance(operation, Call)]
        known = [peak for peak in peaks if peak is not None]
        return Estimate(peak_bytes=max(known)) if len(known) == len(operations) else None


def is_in_modules(reference: str, modules: Iterable[str]) -> bool:
    """Whether a function's module is one of these modules, or inside one of these packages."""
    module = module_of(reference)
    return any(module == one or module.startswith(f"{one}.") for one in modules)


def _is_installed(path: str) -> bool:
    """Whether a path is of Python or an installed package, which each worker finds itself."""
    libraries = [os.path.join(prefix, "lib", "") for prefix in (sys.prefix, sys.base_prefix)]
    return any(path.startswith(library) for library in libraries) or "site-packages" in path or "dist-packages" in path


def _find_reference(function: Callable[..., Any]) -> str | None:
    try:
        return reference_of(function)
    except InvalidTask:
        return None  # of a notebook; the call refuses it with the reason
