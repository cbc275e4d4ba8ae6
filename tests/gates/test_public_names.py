"""What a user sees: every name resolves, lazily, and says what it is; no drawer for odds and ends."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import offloop
import offloop.testing

SOURCE = Path(__file__).parents[2] / "src" / "offloop"
FILES = sorted(SOURCE.rglob("*.py"))
MAX_LINES = 400
DRAWERS = {"util", "utils", "common", "helper", "helpers", "misc", "manager", "managers", "tools", "base"}


def loaded_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after that."""
    text = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout
    return set(text.split())


@pytest.mark.parametrize("name", offloop.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(offloop, name) is not None
    assert name in dir(offloop)


@pytest.mark.parametrize("name", offloop.__all__)
def test_every_public_name_says_what_it_is(name: str) -> None:
    value = getattr(offloop, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert value.__doc__
        assert value.__module__.startswith("offloop.")


def test_public_names_are_sorted_and_unique() -> None:
    assert offloop.__all__ == sorted(set(offloop.__all__))


def test_a_name_that_is_none_of_ours_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = offloop.Nonsense


def test_the_names_that_type_checkers_see_are_the_public_ones() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    named = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(named) == offloop.__all__


def test_importing_offloop_alone_loads_nothing() -> None:
    loaded = loaded_by("import offloop")
    assert {name for name in loaded if name.partition(".")[0] in {"anyio", "msgspec", "asyncio", "uvloop"}} == set()
    assert {name for name in loaded if name.startswith("offloop")} == {"offloop"}


def test_using_one_name_loads_its_own_module_only() -> None:
    loaded = loaded_by("from offloop import TaskFailed")
    assert {name for name in loaded if name.startswith("offloop")} == {"offloop", "offloop.errors"}


def test_a_plugin_authors_names_load_no_server() -> None:
    loaded = loaded_by("from offloop import Operation, Plugin, Processor, Encoded, Raster")
    assert {name for name in loaded if name.partition(".")[0] in {"anyio", "asyncio"}} == set()
    assert not any(name.startswith(("offloop.runtime", "offloop.core", "offloop.pool")) for name in loaded)


@pytest.mark.parametrize("module", ["offloop.worker.main", "offloop.testing.fault_worker", "offloop.testing.faults_processor"])
def test_a_worker_loads_neither_an_event_loop_nor_the_server(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert {name for name in loaded if name.partition(".")[0] in {"anyio", "asyncio", "sniffio", "uvloop"}} == set()
    assert not any(name.startswith(("offloop.runtime", "offloop.core", "offloop.pool")) for name in loaded)


@pytest.mark.parametrize("name", offloop.testing.__all__)
def test_every_public_testing_name_resolves_and_says_what_it_is(name: str) -> None:
    value = getattr(offloop.testing, name)
    assert value.__doc__
    assert value.__module__.startswith("offloop.testing.")
    assert name in dir(offloop.testing)


def test_the_testing_names_that_type_checkers_see_are_the_public_ones() -> None:
    tree = ast.parse((SOURCE / "testing" / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    named = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(named) == sorted(offloop.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        _ = offloop.testing.Nonsense


def test_the_faults_that_a_worker_loads_bring_no_server() -> None:
    loaded = loaded_by("import offloop.testing.faults_processor")
    assert {name for name in loaded if name.partition(".")[0] in {"anyio", "asyncio", "sniffio", "uvloop"}} == set()
    assert not any(name.startswith(("offloop.runtime", "offloop.core", "offloop.pool")) for name in loaded)


def test_the_pytest_plugin_loads_nothing_but_itself() -> None:
    loaded = loaded_by("import offloop.testing.pytest_plugin")
    assert {name for name in loaded if name.partition(".")[0] in {"anyio", "msgspec", "asyncio", "uvloop"}} <= loaded_by(
        "import pytest"
    )
    assert {name for name in loaded if name.startswith("offloop")} == {
        "offloop",
        "offloop.testing",
        "offloop.testing.pytest_plugin",
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_is_a_drawer(path: Path) -> None:
    assert path.stem.strip("_") not in DRAWERS
    assert path.parent.name not in DRAWERS


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_module_says_why_it_exists(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_file_is_two_concepts(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_what_a_module_exports_is_there_and_says_what_it_is(path: Path) -> None:
    tree = ast.parse(path.read_text())
    exported: list[str] = next(
        (
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        ),
        list[str](),
    )
    documented = {node.name for node in defined(tree) if ast.get_docstring(node)}
    undocumented = {node.name for node in defined(tree)} - documented
    assert undocumented & set(exported) <= ENUMS, "an enumeration's members may speak for it"
    if path.name != "__init__.py":
        names = {node.name for node in defined(tree)} | assigned(tree)
        assert set(exported) <= names


ENUMS = {"WorkerState", "WorkerEvent", "Holder"}


def defined(tree: ast.Module) -> list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]


def assigned(tree: ast.Module) -> set[str]:
    """Names that the module's own lines bind."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            found |= {ast.unparse(target) for target in node.targets}
        elif isinstance(node, ast.AnnAssign):
            found.add(ast.unparse(node.target))
    return found
