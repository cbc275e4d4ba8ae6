"""A frozen program starts itself as a worker once, and not endlessly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# what PyInstaller makes, as far as offloop can tell: an executable that sets `sys.frozen` and takes no interpreter's arguments
LAUNCHER = f"""#!{sys.executable}
import multiprocessing.spawn, os, sys
sys.path[:] = {[*sys.path, str(HERE)]!r}
sys.frozen = True
multiprocessing.spawn.set_executable(sys.executable)  # as PyInstaller has it: its resource tracker starts
sys.executable = os.path.abspath(__file__)
with open(os.environ["STARTED"], "a") as file:
    file.write("x")

import offloop
SUPPORT

import anyio
from flags_plugin import Flags, FlagsPlugin

async def main():
    settings = {{"environment": {{"STARTED": os.environ["STARTED"]}}}}
    if "INTERPRETER" in os.environ:
        settings["executable"] = [os.environ["INTERPRETER"], "-B"]
    async with offloop.Pool(1, plugins=[FlagsPlugin], memory_limit="64MiB", **settings) as pool:
        print(bytes(await pool.run(b"", [Flags()])).decode())

anyio.run(main)
"""


class Program:
    """A frozen program, and how often it was started."""

    def __init__(self, directory: Path, support: str) -> None:
        self.path = directory / "program"
        self.path.write_text(LAUNCHER.replace("SUPPORT", support))
        self.path.chmod(0o700)
        self._started = directory / "started"

    @property
    def starts(self) -> int:
        return len(self._started.read_text())

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {"STARTED": str(self._started), **environment}
        return subprocess.run([self.path], env=os.environ | variables, capture_output=True, text=True, timeout=50, check=False)


def test_with_freeze_support_it_is_its_own_worker(tmp_path: Path) -> None:
    program = Program(tmp_path, "offloop.freeze_support()")
    done = program.run()
    assert done.returncode == 0, done.stderr
    assert '"argv"' in done.stdout
    assert program.starts == 2


def test_without_it_the_pool_refuses_to_start_it(tmp_path: Path) -> None:
    program = Program(tmp_path, "")
    done = program.run()
    assert done.returncode == 1
    assert "PoolMisused: workers cannot be started, because" in done.stderr
    assert "offloop.freeze_support()" in done.stderr
    assert "Pool(executable=...)" in done.stderr
    assert program.starts == 1


def test_it_may_name_an_interpreter_instead(tmp_path: Path) -> None:
    program = Program(tmp_path, "")
    path = os.pathsep.join([*sys.path, str(HERE)])  # an interpreter of a frozen program finds offloop by itself
    done = program.run(INTERPRETER=sys.executable, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    assert '"dont_write_bytecode":1' in done.stdout, "the arguments of the interpreter are passed on"
    assert program.starts == 1


def test_a_program_that_runs_as_a_program_where_a_worker_was_meant_is_refused(tmp_path: Path) -> None:
    """The program that `sys.executable` names: here a script that takes any arguments and enters a pool itself."""
    program = Program(tmp_path, "del sys.frozen")
    done = program.run()
    assert done.returncode == 1
    assert "this process was started as a worker" in done.stderr
    assert program.starts <= 1 + 3, "three starts are tried before the pool gives up"


@pytest.mark.parametrize("frozen", [False, True])
def test_in_a_server_it_has_no_effect(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import offloop
    from offloop import program

    monkeypatch.setattr(program, "_supported", False)
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setattr(sys, "argv", ["server", "--port", "80"])
    offloop.freeze_support()
    assert sys.argv == ["server", "--port", "80"]
