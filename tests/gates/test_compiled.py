"""What is compiled where that is asked for: modules that can be, and all of them or none."""

from __future__ import annotations

import ast
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "offloop"


def hook() -> dict[str, Any]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return settings["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"]


def compiled_modules() -> list[str]:
    chosen = {path for pattern in hook()["include"] for path in PACKAGE.glob(pattern)}
    return sorted(str(path.relative_to(PACKAGE)) for path in chosen - {PACKAGE / name for name in hook()["exclude"]})


def bases(module: str) -> set[str]:
    tree = ast.parse((PACKAGE / module).read_text())
    return {ast.unparse(base) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases}


def test_it_is_asked_for_and_never_the_default() -> None:
    assert hook()["enable-by-default"] is False


@pytest.mark.parametrize("pattern", [*hook()["include"], *hook()["exclude"]])
def test_what_is_named_is_there(pattern: str) -> None:
    assert list(PACKAGE.glob(pattern))


@pytest.mark.parametrize("module", compiled_modules())
def test_no_struct_is_defined_in_a_module_that_is_compiled(module: str) -> None:
    assert "msgspec.Struct" not in bases(module)


@pytest.mark.parametrize("module", compiled_modules())
def test_no_coroutine_is_compiled(module: str) -> None:
    """In what mypyc makes of one, an exception that was caught may come back in another task (seen with mypy 2.4)."""
    tree = ast.parse((PACKAGE / module).read_text())
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef)]


@pytest.mark.parametrize("module", [name for name in hook()["exclude"] if not name.endswith("__init__.py")])
def test_what_is_left_out_defines_structs(module: str) -> None:
    assert "msgspec.Struct" in bases(module)


def test_an_installation_is_compiled_wholly_or_not_at_all() -> None:
    names = ["offloop." + module.removesuffix(".py").replace("/", ".") for module in compiled_modules()]
    specs = {name: find_spec(name) for name in names}
    origins = {name: str(spec and spec.origin) for name, spec in specs.items()}
    assert len({Path(origin).suffix for origin in origins.values()}) == 1, origins
