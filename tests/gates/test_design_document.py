"""The design document shows the table that the code uses."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_drawing_of_the_workers_life_is_the_tables() -> None:
    drawing = runpy.run_path(str(DOCS / "draw_worker_life.py"))
    text = (DOCS / "design.md").read_text()
    assert text == drawing["redrawn"](text), "run: python docs/draw_worker_life.py"
    assert "BUSY --> TIMED_OUT: CancelRequested, DeadlineExpired" in text


def test_every_test_that_the_laws_name_exists() -> None:
    root = DOCS.parent
    laws = (DOCS / "design.md").read_text().partition("## The laws")[2].partition("\n## ")[0]
    named = [word for word in laws.split("`") if word.startswith(("tests/", "plugins/"))]
    assert len(named) >= 10
    assert [path for path in named if not (root / path).exists()] == []
