"""Loads the main module of the server's program in a worker, for the functions that it defines.

The module is a script or the `__main__` of a zip file or a folder. It is run under another name than `__main__`, so that a
block `if __name__ == "__main__":` is not run. If the module has no such block and enters a pool at once, the pool refuses that:
each worker would start workers, without end.
"""

from __future__ import annotations

import io
import os
import pkgutil
import sys
from types import CodeType, ModuleType
from typing import Any

from ..wire.start import LOADING_MAIN_MODULE, START_MARK

__all__ = ["MAIN_MODULE_NAME", "load_main_module"]

MAIN_MODULE_NAME = "__offloop_main__"
"""Name of the server's main module in a worker."""


def load_main_module(path: str) -> ModuleType:
    """Run the file once, and return its module. Later calls return the same module.

    Args:
        path: absolute path of the script; of `__main__.py` in a zip file, as if that were a folder.

    Raises:
        Exception: the file cannot be read, or raises when it is run.
    """
    main = sys.modules["__main__"]
    if os.path.abspath(getattr(main, "__file__", None) or "") == path:
        return main  # of `Pool(inline=True)`, or loaded before
    module = ModuleType(MAIN_MODULE_NAME)
    module.__file__ = path
    code = _code_of(path)
    sys.modules[MAIN_MODULE_NAME] = module
    os.environ[START_MARK] = LOADING_MAIN_MODULE  # refuses pools, see `program.check_program`
    try:
        exec(code, module.__dict__)  # noqa: S102 (it is the server's own program)
    except BaseException:
        del sys.modules[MAIN_MODULE_NAME]
        raise
    finally:
        os.environ.pop(START_MARK, None)
    sys.modules["__main__"] = module  # because pickles of the server refer to its classes by this name
    return module


def _code_of(path: str) -> CodeType:
    if os.path.isfile(path):
        with io.open_code(path) as file:
            return compile(file.read(), path, "exec")
    importer: Any = pkgutil.get_importer(os.path.dirname(path))
    code = None if importer is None else importer.find_spec("__main__").loader.get_code("__main__")
    if code is None:
        raise FileNotFoundError(f"there is no main module at {path!r}")
    return code
