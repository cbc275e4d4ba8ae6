"""Refuses imports that the sandbox does not allow after a worker has loaded its plugins, with a text that says what to do.

Before that, the worker imports parts of Python, numpy and Pillow that these import late themselves. The sandbox refuses to open
the file of another module anyway, but the import system would report a missing module.
"""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import ModuleType

__all__ = ["refuse_late_imports"]


_OF_PYTHON = ("encodings.ascii", "encodings.cp1252", "encodings.latin_1", "encodings.utf_16", "encodings.utf_8_sig")
_OF_PACKAGES = {
    "numpy": ("numpy.char", "numpy.ctypeslib", "numpy.fft", "numpy.ma", "numpy.polynomial", "numpy.random", "numpy.rec"),
    "PIL.Image": ("PIL.ImageColor", "PIL.ImageFilter", "PIL.ImageOps", "PIL.ImagePalette", "PIL.ImageSequence"),
}


def import_lazy_modules() -> None:
    """Import the late parts of Python, and of the packages that are loaded. A module that cannot be imported is left out."""
    names = [*_OF_PYTHON, *(name for package, parts in _OF_PACKAGES.items() if package in sys.modules for name in parts)]
    for name in names:
        with suppress(Exception):  # any error of a module's own code
            import_module(name)


class _LateImports:
    """Finder that is asked for a module that is neither loaded, nor built in, nor frozen."""

    @staticmethod
    def find_spec(name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> None:
        raise ImportError(
            f"{name} cannot be imported now, because the sandbox lets a worker read no module after its plugins are loaded: "
            "import it at the top of the processor's module, or in `open`, or declare Plugin.needs = Needs(modules=True)",
            name=name,
        )


class _ReadableModules:
    """Finder that is asked before the search path, and refuses a module whose file the sandbox does not let the worker read."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.origin is not None:
            try:
                with open(spec.origin, "rb"):
                    pass
            except PermissionError:
                raise ImportError(
                    f"{name} cannot be imported now, because the sandbox lets a worker read only installed packages, and the "
                    "code that was loaded before: import it in the server before the pool is entered, or name it in "
                    "@offloop.function(preload=[...])",
                    name=name,
                ) from None
            except OSError:
                pass  # of an archive
        return spec


def explain_refused_imports() -> None:
    """Have the import of a file that the worker may not read raise an error with the remedy."""
    sys.meta_path.insert(_place_of_path_finder(), _ReadableModules)


def _place_of_path_finder() -> int:
    return next((i for i, finder in enumerate(sys.meta_path) if finder is importlib.machinery.PathFinder), len(sys.meta_path))


def refuse_late_imports() -> None:
    """Refuse further imports of modules that are in files."""
    kept = [importlib.machinery.BuiltinImporter, importlib.machinery.FrozenImporter]
    sys.meta_path[:] = [*kept, _LateImports]
