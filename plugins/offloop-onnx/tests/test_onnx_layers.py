"""Imports between the plugin's packages point one way, and only `processor` imports onnxruntime."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "offloop_onnx"

BASE = {"onnx_model", "shipped_models"}
ALLOWED: dict[str, set[str]] = {
    "onnx_model": set(),
    "shipped_models": {"onnx_model"},
    "settings": BASE,
    "operations": {"operations", *BASE},
    "estimates": {"operations", *BASE},
    "plugin": {"estimates", "operations", "settings", *BASE},
    "pictures": {"pictures"},
    "processor": {"processor", "pictures", "operations", "settings", *BASE},
    "__init__": {"plugin", "operations", "onnx_model"},
}
"""Package or top-level module -> packages and modules of the plugin that it may import."""

HEAVY = {"onnxruntime": {"processor"}, "numpy": {"processor", "pictures"}}
"""Package of another distribution -> the plugin's packages that may import it."""


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
        if (is_own and name not in ALLOWED[layer]) or (not is_own and layer not in HEAVY.get(name, {layer}))
    ]


def test_every_package_and_module_has_a_layer() -> None:
    assert {name.partition(".")[0] for name in modules()} == set(ALLOWED)


def test_no_import_points_the_wrong_way() -> None:
    assert [text for module, path in modules().items() for text in violations(module, path.read_text())] == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("onnx_model", "from .operations import Upscale"),
        ("shipped_models", "from .settings import OnnxSettings"),
        ("operations.upscale", "from ..plugin import OnnxPlugin"),
        ("operations.upscale", "def f():\n    import numpy"),
        ("estimates", "from .pictures import picture"),
        ("plugin", "from .processor import OnnxProcessor"),
        ("plugin", "from onnxruntime import InferenceSession"),
        ("pictures.resampling", "import onnxruntime"),
        ("pictures.resampling", "from ..operations import Upscale"),
    ],
)
def test_a_wrong_import_is_found(module: str, text: str) -> None:
    assert len(violations(module, text)) == 1


def test_every_light_module_can_be_imported_without_numpy_and_without_onnxruntime() -> None:
    light = [name.removesuffix(".__init__") for name in modules() if not name.startswith(("processor", "pictures", "__init__"))]
    names = ", ".join(f"offloop_onnx.{name}" for name in light)
    code = f"import sys; sys.modules.update(dict.fromkeys({sorted(HEAVY)}))\nimport {names}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
