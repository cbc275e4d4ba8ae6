"""`offloop new-plugin` writes a distribution whose tests pass, and changes nothing that exists."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

CommandLine: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]


def install(distribution: Path, site: Path) -> dict[str, str]:
    """An environment in which the distribution is installed: its sources are on the path, and its metadata, too."""
    project = tomllib.loads((distribution / "pyproject.toml").read_text())["project"]
    metadata = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in found.items()) for group, found in groups]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(distribution / "src"), str(site)])}


@pytest.mark.parametrize(("name", "package"), [("invert", "offloop_invert"), ("audio-tags2", "offloop_audio_tags2")])
def test_the_tests_of_a_new_plugin_pass(command_line: CommandLine, tmp_path: Path, name: str, package: str) -> None:
    ended = command_line("new-plugin", name)
    assert ended.returncode == 0, ended.stderr
    folder = tmp_path / f"offloop-{name}"
    assert ended.stdout.startswith(f"offloop-{name}: next, cd offloop-{name} && ")
    assert (folder / "src" / package / "py.typed").exists()
    environment = install(folder, tmp_path / "site")
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:randomly", "--rootdir", str(folder)]
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "14 passed" in tests.stdout
    assert "$" not in "".join(path.read_text() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    checks = [["ruff", "check", "--isolated"], ["ruff", "format", "--isolated", "--check", "--line-length", "140"]]
    for check in checks:
        checked = subprocess.run([sys.executable, "-m", *check], cwd=folder, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", ["Invert", "1st", "a_b", "-a", "a-", "a--b", "../a", ""])
def test_a_name_that_makes_no_distribution_is_bad_usage(command_line: CommandLine, tmp_path: Path, name: str) -> None:
    ended = command_line("new-plugin", "--", name)
    assert ended.returncode == 2
    assert "must be lower case letters" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(command_line: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "offloop-ocr").mkdir()
    ended = command_line("new-plugin", "ocr")
    assert (ended.returncode, ended.stderr) == (1, "Error: offloop-ocr exists\n")
    assert list((tmp_path / "offloop-ocr").iterdir()) == []
