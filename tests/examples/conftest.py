"""A fixture for fragments that must be modules."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offloop.functions import declaration, resource


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Any]]:
    """Saves a fragment as a module that workers can import, and imports it."""
    monkeypatch.setattr(declaration, "_declared", {})
    monkeypatch.setattr(resource, "_declared", {})
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    names: list[str] = []

    def save(name: str, text: str) -> Any:
        (tmp_path / f"{name}.py").write_text(text)
        names.append(name)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield save
    for name in names:
        sys.modules.pop(name, None)
