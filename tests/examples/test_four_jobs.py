"""The four jobs of docs/functions.md run in each way, and their lines are counted from the files."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOUR_JOBS = Path(__file__).parents[2] / "docs" / "examples" / "four_jobs"
FILES = sorted(FOUR_JOBS.glob("*/with_*.py"))
ANSWERS = {
    "pdf_page": "600",
    "table": "[(0, 16668333), (1, 16661667), (2, 16665000)]",
    "model": "2.0",
    "progress": "3",
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pdfium: Any = pytest.importorskip("pypdfium2")
    path = tmp_path_factory.mktemp("documents") / "document.pdf"
    pdf: Any = pdfium.PdfDocument.new()
    pdf.new_page(20, 10)
    pdf.save(str(path))
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_each_job_gives_its_answer_in_each_way(path: Path, document: Path) -> None:
    ended = subprocess.run([sys.executable, path, document], capture_output=True, text=True, timeout=55, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    assert ended.stdout.splitlines()[-1] == ANSWERS[path.parent.name]


def test_the_table_of_lines_is_counted_from_the_files() -> None:
    counting = runpy.run_path(str(FOUR_JOBS / "count_lines.py"))
    page = (FOUR_JOBS.parents[1] / "functions.md").read_text()
    assert counting["counted"](page) == page, "run: python docs/examples/four_jobs/count_lines.py"
    counts = counting["counts"]()
    assert len(counts) * 4 == len(FILES)
    assert [
        job for job, lines in counts.items() if lines["with_offloop"] > min(lines["with_executor"], lines["with_pebble"])
    ] == []


def test_imports_comments_and_docstrings_do_not_count() -> None:
    lines_of_code = runpy.run_path(str(FOUR_JOBS / "count_lines.py"))["lines_of_code"]
    assert lines_of_code('"""Text\n\nin lines."""\n\nfrom os import (\n    path,\n)\n# comment\nvalue = path  # comment\n') == 1
