"""The unit on the page about systemd is one that systemd accepts, and the workers' sandbox works under its restrictions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "systemd.md").read_text()
UNITS = [unit for unit in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if "[Service]" in unit]

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def verify(unit: str, folder: Path) -> str:
    """What `systemd-analyze verify` says of a unit, whose program is one that exists here."""
    program = re.search(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    assert program
    path = folder / "thumbnails.service"
    path.write_text(unit.replace(program[1], sys.executable))
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    return checked.stdout + checked.stderr + (f"exit code {checked.returncode}" if checked.returncode else "")


def test_there_is_one_unit() -> None:
    assert len(UNITS) == 1


@needs_systemd
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    assert verify(UNITS[0], tmp_path) == ""


@needs_systemd
@pytest.mark.parametrize(
    ("line", "wrong", "said"),
    [
        ("KillMode=mixed", "KillMode=both", "kill mode"),
        ("MemoryMax=2G", "MemoryMax=much", "memory limit"),
        ("ProtectSystem=strict", "ProtectSytem=strict", "ProtectSytem"),
    ],
)
def test_a_wrong_line_is_found(tmp_path: Path, line: str, wrong: str, said: str) -> None:
    assert line in UNITS[0]
    assert said in verify(UNITS[0].replace(line, wrong), tmp_path)
