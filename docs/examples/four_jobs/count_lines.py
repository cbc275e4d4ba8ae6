"""Count the lines of code of the four jobs, and write the table in functions.md: python docs/examples/four_jobs/count_lines.py

A line counts if it has code: no blank line, no comment, no docstring, and no import.
"""

from __future__ import annotations

import ast
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "functions.md"
JOBS = {"pdf_page": "a page of a PDF", "table": "totals of a table", "model": "a model", "progress": "progress"}
WAYS = {
    "with_offloop": "offloop",
    "with_executor": "ProcessPoolExecutor",
    "with_pebble": "pebble",
    "with_anyio": "anyio.to_process",
}
BEGIN, END = "<!-- counted by examples/four_jobs/count_lines.py -->\n", "<!-- end of the table -->\n"


def lines_of_code(text: str) -> int:
    """Return the number of lines with code."""
    tree = ast.parse(text)
    left_out = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    docstring = tree.body[0]
    skipped = {line for node in [docstring, *left_out] for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and number not in skipped for number, line in lines)


def counts() -> dict[str, dict[str, int]]:
    """Return the lines of each job in each way."""
    return {job: {way: lines_of_code((HERE / job / f"{way}.py").read_text()) for way in WAYS} for job in JOBS}


def counted(text: str) -> str:
    """Return the page with the table of today's files."""
    rows = [f"| | {' | '.join(WAYS.values())} |", f"| --- |{' --- |' * len(WAYS)}"]
    for job, lines in counts().items():
        cells = [f"[{number}](examples/four_jobs/{job}/{way}.py)" for way, number in lines.items()]
        rows.append(f"| {JOBS[job]} | {' | '.join(cells)} |")
    before, _, rest = text.partition(BEGIN)
    return before + BEGIN + "\n".join(rows) + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(counted(PAGE.read_text()))
