"""The fragments of Python on the pages, and how a test runs one."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import anyio

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/[ht]*/*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
]


def fragments(page: Path) -> list[str]:
    """Every fragment of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def fragment(page: str, word: str) -> str:
    """The one fragment of a page that has the word."""
    (found,) = [text for text in fragments(ROOT / page) if word in text]
    return found


async def run(text: str, **names: Any) -> dict[str, Any]:
    """Carry a fragment out, and return all that has a name then."""
    code = compile(text, "fragment", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with anyio.fail_after(40):
        if (waiting := eval(code, names)) is not None:
            await waiting
    return names
