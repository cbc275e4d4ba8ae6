"""Checks that the module of a processor exists, without importing it or its packages.

Only workers import a processor, and importing its package may load large libraries too. But `importlib.util.find_spec` imports
packages. So this module calls the finders of the import system for each part of the name. Whether the module has the attribute
is not checked, because that requires importing it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

__all__ = ["find_missing_module"]


def find_missing_module(module: str) -> str | None:
    """Returns the shortest prefix of a dotted name that no finder finds; None if the module exists, or if that cannot be
    checked without importing its package."""
    path: Sequence[str] | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        loaded = sys.modules.get(name)
        if loaded is not None:
            path = getattr(loaded, "__path__", None)
            continue
        if count > 1 and path is None:
            return name  # because its parent is a module and not a package
        try:
            spec = _find_spec(name, path)
            if spec is None:
                return name
            path = spec.submodule_search_locations and list(spec.submodule_search_locations)
        except Exception:  # a finder that requires the imported package
            return None
    return None


def _find_spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None
