"""The tree stays a map: packages of few modules, modules of one screenful of concepts, and no module named after nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "src" / "offloop", *sorted(ROOT.glob("plugins/*/src/*")), *sorted(ROOT.glob("docs/examples/*/src/*"))]
MODULES = sorted(path for source in SOURCES for path in source.rglob("*.py"))

MAX_MODULES = 14  # in a package, `__init__` not counted: more than that cannot be taken in at a glance
MAX_LINES = 400  # of a module: a longer one is two concepts
MAX_FUNCTION_LINES = 60

CATALOGUES = {"operations"}  # packages with one module for each operation of a plugin: a list, not a map
NAMELESS = {"util", "utils", "common", "helper", "helpers", "misc", "manager", "managers"}


def packages() -> list[Path]:
    return sorted({path.parent for path in MODULES if path.parent.name not in CATALOGUES})


def test_the_walk_finds_the_packages() -> None:
    names = {path.name for path in packages()}
    assert {"offloop", "core", "runtime", "worker", "wire", "client"} <= names
    assert {"offloop_vips", "headers", "estimates", "processor"} <= names


@pytest.mark.parametrize("package", packages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_package_has_at_most_fourteen_modules(package: Path) -> None:
    modules = [path.name for path in package.glob("*.py") if not path.name.startswith("__")]
    assert len(modules) <= MAX_MODULES, modules


def test_no_module_is_longer_than_four_hundred_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_function_is_longer_than_sixty_lines() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.body[_first_statement(node)].lineno >= MAX_FUNCTION_LINES
    ]
    assert found == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [str(path) for path in MODULES if path.stem.strip("_") in NAMELESS] == []


def _first_statement(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Index of the first statement after the docstring; a docstring is a contract and may be long."""
    has_docstring = ast.get_docstring(function) is not None
    return 1 if has_docstring and len(function.body) > 1 else 0
