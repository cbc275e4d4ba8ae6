"""Imports between the plugin's packages point one way, and only `processor` imports pyvips."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "offloop_vips"

BASE = {"headers", "geometry", "colours", "colour_spaces", "limits"}
ALLOWED: dict[str, set[str]] = {
    "headers": {"headers"},
    "geometry": set(),
    "colours": set(),
    "colour_spaces": {"colours"},
    "evaluation": set(),
    "limits": {"geometry", "headers"},
    "picture": {"evaluation", *BASE},
    "operations": {"operations", "picture", *BASE},
    "pipeline": {"operations", *BASE},
    "estimates": {"estimates", "pipeline", "operations", *BASE},
    "previews": {"pipeline", "operations", *BASE},
    "plugin": {"estimates", "pipeline", "operations", *BASE},
    "processor": {"processor", "plugin", "previews", "pipeline", "operations", "picture", "evaluation", *BASE},
    "__init__": {"plugin", "operations"},
}
"""Package or top-level module -> packages and modules of the plugin that it may import."""

HEAVY = {"pyvips", "numpy", "cffi", "_cffi_backend", "_libvips"}


def modules() -> dict[str, Path]:
    return {".".join(path.relative_to(SOURCE).with_suffix("").parts): path for path in sorted(SOURCE.rglob("*.py"))}


def imports(module: str, text: str) -> Iterator[tuple[str, bool]]:
    """The imported names: below the plugin and True, or a package of another distribution and False."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0], False
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ((".".join([*package, name]).partition(".")[0], True) for name in names)


def violations(module: str, text: str) -> list[str]:
    layer = module.partition(".")[0]
    return [
        f"{module} imports {name}"
        for name, is_own in imports(module, text)
        if (is_own and name not in ALLOWED[layer]) or (not is_own and name in HEAVY and layer != "processor")
    ]


def test_every_package_and_module_has_a_layer() -> None:
    assert {name.partition(".")[0] for name in modules()} == set(ALLOWED)


def test_no_import_points_the_wrong_way() -> None:
    assert [text for module, path in modules().items() for text in violations(module, path.read_text())] == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("headers.parser", "from ..operations import Decode"),
        ("geometry", "from .picture import Picture"),
        ("operations.blur", "from ..pipeline import Pipeline"),
        ("picture", "from . import operations"),
        ("picture", "def f():\n    import pyvips"),
        ("plugin", "from .processor import VipsProcessor"),
        ("estimates.costs", "from pyvips import Image"),
    ],
)
def test_a_wrong_import_is_found(module: str, text: str) -> None:
    assert len(violations(module, text)) == 1


def test_every_light_module_can_be_imported_without_an_image_library() -> None:
    light = [name.removesuffix(".__init__") for name in modules() if not name.startswith(("processor", "__init__"))]
    names = ", ".join(f"offloop_vips.{name}" for name in light)
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(HEAVY)}))\nimport {names}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
