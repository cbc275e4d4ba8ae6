"""Functions in a notebook: a real kernel, in a process of its own, runs the cells."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ipykernel")
pytest.importorskip("nbclient")

RUN_CELLS = """
import json, sys
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell(source) for source in json.load(sys.stdin)]
client = NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=50, kernel_name="python3")
client.execute()
json.dump(["".join(output.get("text", "") for output in cell.outputs) for cell in cells], sys.stdout)
"""

MODULE = """
import offloop


@offloop.function
def double(number: int) -> int:
    return 2 * number
"""

CELLS = [
    """
import offloop
import notebook_jobs


@offloop.function
def of_this_notebook(number: int) -> int:
    return number


pool = await offloop.Pool(1, plugins=["functions"], memory_limit="256MiB").__aenter__()
""",
    """
try:
    await pool.call(of_this_notebook, 1)
except offloop.InvalidTask as error:
    print(error)
""",
    """
print(await pool.call(notebook_jobs.double, 21))
async with pool.map_call(notebook_jobs.double, [(1,), (2,)], ordered=True) as outcomes:
    print([outcome.unwrap() async for outcome in outcomes])
""",
    """
await pool.__aexit__(None, None, None)
""",
]


def test_functions_of_a_module_run_from_a_notebook_and_those_of_a_cell_are_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "notebook_jobs.py").write_text(MODULE)
    path = os.pathsep.join([str(tmp_path), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-c", RUN_CELLS],
        input=json.dumps(CELLS),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    made, refused, called, closed = json.loads(done.stdout)
    assert (made, closed) == ("", "")
    assert refused.startswith("of_this_notebook is defined in a notebook")
    assert "write it into a module, and import it from there" in refused
    assert called == "42\n[2, 4]\n"
