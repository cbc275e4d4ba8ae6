"""Whether the module of a processor can be found, without importing it or any package around it.

The processor is the heavy half of a plugin, which only workers import, and its package may be heavy as well. But
`importlib.util.find_spec` imports packages. Here each finder of the import system is asked for one part of the name after the
other. Whether the module has the attribute is known only to the worker that imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec

__all__ = ["find_missing_module"]


def find_missing_module(module: str) -> str | None:
    """The first part of a dotted name that no finder knows; None: the module is there, or only its package could tell."""
    path: Sequence[str] | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        loaded = sys.modules.get(name)
        if loaded is not None:
            path = getattr(loaded, "__path__", None)
            continue
        if count > 1 and path is None:
            return name  # what is around it is a module and no package
        try:
            spec = _find_spec(name, path)
            if spec is None:
                return name
            path = spec.submodule_search_locations and list(spec.submodule_search_locations)
        except Exception:  # a finder that needs the package imported
            return None
    return None


def _find_spec(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None
