"""Import paths of functions: "module:name", or "/path/of/script.py:name" for a function of the program's main module.

The server names a function by the path at which a worker finds it. A function without one is refused, with the cure.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import partial, reduce
from importlib import import_module
from types import BuiltinFunctionType, MethodType, ModuleType
from typing import Any

from ..errors import InvalidTask
from .main_module import load_main_module

__all__ = ["find_function", "find_objection", "module_of", "reference_of"]

_MAIN = "__main__"


def reference_of(target: Callable[..., Any]) -> str:
    """Returns the path at which a worker finds a function.

    Raises:
        InvalidTask: there is none; the message says what to do.
    """
    objection = find_objection(target)
    if objection is not None:
        raise InvalidTask(objection)
    name, module = target.__qualname__, target.__module__
    try:
        found: Any = reduce(getattr, name.split("."), sys.modules[module])
    except (KeyError, AttributeError):
        raise InvalidTask(
            f"{module}.{name} is not in its module, so no worker finds it; keep it under the name of its `def`"
        ) from None
    if inspect.unwrap(found) is not inspect.unwrap(target):
        raise InvalidTask(
            f"{module}.{name} is another object now, and a worker would run that one; give each function its own name"
        )
    return f"{_importable_name(module, name)}:{name}"


def find_function(reference: str) -> Any:
    """Import and return the object at a path, in a worker.

    Raises:
        Exception: the module cannot be imported, or has no such name.
    """
    module, _, name = reference.rpartition(":")
    found: ModuleType = load_main_module(module) if os.path.isabs(module) else import_module(module)
    return reduce(getattr, name.split("."), found)


def module_of(reference: str) -> str:
    """Returns the name of the module, or the path of the script, of a function."""
    return reference.rpartition(":")[0]


def find_objection(target: Any) -> str | None:
    """Returns the reason why no worker can call an object by its import path; None if one could."""
    if isinstance(target, partial):
        return f"{target!r} has no import path; give its function, and its arguments to the call"
    if isinstance(target, type):
        return f"{target.__qualname__} is a class; give a function that makes and uses it"
    name: Any = getattr(target, "__qualname__", None)
    if not callable(target) or not isinstance(name, str) or not isinstance(getattr(target, "__module__", None), str):
        return f"{target!r} is no function that can be imported; give a function of a module"
    return _objection_to_binding(target, name) or _objection_to_name(target, name)


def _objection_to_binding(target: Any, name: str) -> str | None:
    if isinstance(target, MethodType) or (
        isinstance(target, BuiltinFunctionType) and not isinstance(target.__self__, ModuleType | None)
    ):
        return f"{name} is bound to {target.__self__!r}, which stays in this process; give a function of a module"
    return None


def _objection_to_name(target: Any, name: str) -> str | None:
    if "<lambda>" in name:
        return "a lambda has no name that a worker could import; write `def` in a module"
    if "<locals>" in name:
        return f"{name} is defined inside a function, where no worker finds it; move it to the top level of its module"
    if inspect.iscoroutinefunction(target) or inspect.isasyncgenfunction(target):
        return f"{name} is async, and a worker has no event loop; write it with `def`, or await it in the server"
    return None


def _importable_name(module: str, name: str) -> str:
    """Returns the name or the path from which a worker loads the module of a function."""
    if module != _MAIN:
        return module
    main = sys.modules[_MAIN]
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None and spec.name != _MAIN:
        return spec.name  # `python -m package.module`
    if path is None or (not os.path.isfile(path) and spec is None):
        where = "a notebook, `python -c`, stdin or an interactive session"
        raise InvalidTask(f"{name} is defined in {where}, which has no file; write it into a module, and import it from there")
    return os.path.abspath(path)
