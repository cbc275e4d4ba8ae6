"""What the sandbox lets functions do: by default import code, and with options of the decorator use files and the network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_escapes import needs_all_layers

PROGRAM = Path(__file__).parent / "function_needs_program.py"
REFUSED = "PermissionError"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a program, a secret and a module beside it, and directories for its input and output."""
    for name in ("input", "output", "program"):
        (tmp_path / name).mkdir()
    (tmp_path / "input" / "file").write_text("input")
    (tmp_path / "program" / "secret.env").write_text("PASSWORD=secret")
    (tmp_path / "program" / "late_module.py").write_text("")
    shutil.copy(PROGRAM, tmp_path / "program")
    return tmp_path


def outcomes(directory: Path, needs: str) -> dict[str, str]:
    command = [sys.executable, str(directory / "program" / PROGRAM.name)]
    environment = {**os.environ, "OFFLOOP_TEST_NEEDS": f"{needs}:{directory}"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, str] = json.loads(ended.stdout)
    return found


@needs_all_layers
def test_by_default_functions_may_only_import_code(directory: Path) -> None:
    found = outcomes(directory, "none")
    assert "preload=[...]" in found.pop("remedy")
    assert found == {
        "read input": REFUSED,
        "read its own source": "allowed",
        "read a file beside its source": REFUSED,
        "read a late module": REFUSED,
        "write output": REFUSED,
        "write input": REFUSED,
        "connect": REFUSED,
        "import of Python": "allowed",
        "import of an installed package": "allowed",
        "import of a late module": "ImportError",
    }


@needs_all_layers
def test_the_options_of_a_function_allow_files_and_connections(directory: Path) -> None:
    found = outcomes(directory, "needs")
    allowed = {name for name, outcome in found.items() if outcome == "allowed"}
    assert allowed >= {"read input", "write output", "connect"}
    assert (found["write input"], found["read a file beside its source"]) == (REFUSED, REFUSED)
    assert (directory / "output" / "file").read_text() == "written"
    assert (directory / "input" / "file").read_text() == "input"
