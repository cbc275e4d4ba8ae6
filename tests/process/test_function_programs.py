"""Functions of the main module: scripts, `-m`, zip files and folders work; programs without a file are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

PROGRAM = """
import dataclasses
import sys

import anyio

import offloop


@dataclasses.dataclass
class Point:
    x: int


@offloop.function
def double(point: Point) -> Point:
    return Point(2 * point.x)


async def main():
    async with offloop.Pool(1, plugins=["functions"], memory_limit="256MiB") as pool:
        try:
            print(await pool.call(double, Point(21)))
        except offloop.OffloopError as error:
            print(type(error).__name__, error)


if __name__ == "__main__":
    print("started")
    anyio.run(main)
"""
PATH = os.pathsep.join(path for path in sys.path if path)


def output_of(*command: str | Path, cwd: Path, stdin: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": PATH},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_functions_of_a_script_run_without_its_main_block(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROGRAM)
    assert output_of("script.py", cwd=tmp_path) == "started\nPoint(x=42)\n"


def test_the_traceback_of_a_function_of_a_sandboxed_script_has_its_source_lines(tmp_path: Path) -> None:
    program = PROGRAM.replace("return Point(2 * point.x)", "return Point(point.x // 0)")
    program = program.replace(
        "print(type(error).__name__, error)", "print(pool.statistics().groups['functions'].sandbox, error.__notes__)"
    )
    (tmp_path / "script.py").write_text(program)
    printed = output_of("script.py", cwd=tmp_path)
    assert "auto: limits, privileges, seccomp" in printed
    assert "in double\\n    return Point(point.x // 0)\\n" in printed


def test_functions_of_a_module_that_is_run_with_m(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "program.py").write_text(PROGRAM)
    assert output_of("-m", "package.program", cwd=tmp_path) == "started\nPoint(x=42)\n"


def test_functions_of_a_zip_file_and_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text(PROGRAM)
    zipapp.create_archive(tmp_path / "folder", tmp_path / "program.pyz")
    assert output_of("program.pyz", cwd=tmp_path) == "started\nPoint(x=42)\n"
    assert output_of("folder", cwd=tmp_path) == "started\nPoint(x=42)\n"


@pytest.mark.parametrize("how", ["-c", "-"])
def test_functions_of_a_program_without_a_file_are_refused(tmp_path: Path, how: str) -> None:
    command = ("-c", PROGRAM) if how == "-c" else ("-",)
    printed = output_of(*command, cwd=tmp_path, stdin=PROGRAM if how == "-" else None)
    assert printed.startswith("started\nInvalidTask double is defined in a notebook, `python -c`, stdin")
    assert "write it into a module, and import it from there" in printed


def test_a_script_without_a_main_block_starts_no_workers_without_end(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(PROGRAM.replace('if __name__ == "__main__":', "if True:"))
    printed = output_of("script.py", cwd=tmp_path)
    assert "PluginError" in printed
    assert "put everything but definitions below `if __name__ == '__main__':`" in printed
    assert printed.count("started") == 1
