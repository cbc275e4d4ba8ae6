"""Compiles what the server does for each task with mypyc, where that is asked for:

    HATCH_BUILD_HOOKS_ENABLE=true python -m pip install .

It is the same source: everything works interpreted, and is so wherever nobody asked. An editable installation always is: its
sources are there to be changed. `pyproject.toml` says which modules are compiled. Those that define msgspec's structs are not,
as mypyc has no place for their metaclass, nor are those with coroutines: its exceptions in them are not to be relied on.
"""

from __future__ import annotations

import os
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SOURCES = Path("src")


class CompilingHook(BuildHookInterface[Any]):
    """Adds the compiled modules to a wheel, beside their sources. Nothing is left in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell the builder what to take."""
        if version == "editable":
            return
        self._scratch = TemporaryDirectory()  # until the wheel is made
        with chdir(self.root):
            compiled = _compile(self._modules(), Path(self._scratch.name))
        build_data["force_include"] |= compiled
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is made."""
        del build_data, artifact_path
        if version != "editable":
            self._scratch.cleanup()

    def _modules(self) -> list[str]:
        package = _SOURCES / "offloop"
        chosen = {path for pattern in self.config["include"] for path in package.glob(pattern)}
        return sorted(str(path) for path in chosen - {package / name for name in self.config["exclude"]})


def _compile(modules: list[str], scratch: Path) -> dict[str, str]:
    """Each extension module that comes of these sources, and its place in a wheel."""
    from mypyc.build import mypycify  # noqa: PLC0415 (they are there only when the hook is asked for)
    from setuptools import Distribution  # noqa: PLC0415
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    os.environ["MYPYPATH"] = str(_SOURCES)
    options = [
        "--explicit-package-bases",
        "--ignore-missing-imports",
        "--follow-imports=silent",
        f"--cache-dir={scratch / 'mypy'}",
    ]
    extensions = mypycify([*options, *modules], target_dir=str(scratch / "c"), debug_level="0")
    command = build_ext(Distribution({"name": "offloop", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "temp")
    command.ensure_finalized()
    command.run()
    library = scratch / "lib"
    return {str(path): str(path.relative_to(library)) for path in library.rglob("*.so")}
