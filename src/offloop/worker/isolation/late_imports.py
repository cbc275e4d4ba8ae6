"""Refuses imports after a worker has loaded its plugins, with a text that says what to do.

The sandbox refuses to open the module's file anyway, but the import system would report a missing module.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["refuse_late_imports"]


class _LateImports:
    """Finder that is asked for a module that is neither loaded, nor built in, nor frozen."""

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> None:
        raise ImportError(
            f"{name} cannot be imported now, because the sandbox lets a worker read no module after its plugins are loaded: "
            "import it at the top of the processor's module, or in `open`, or declare Plugin.needs = Needs(modules=True)",
            name=name,
        )


def refuse_late_imports() -> None:
    """Refuse further imports of modules that are in files."""
    kept = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter]
    sys.meta_path[:] = [*kept, _LateImports]
