"""A worker imports the same modules as its server, under the same interpreter flags, for every kind of server start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipapp
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent

SERVER = """
import anyio, json, sys
from flags_plugin import Flags, FlagsPlugin
from offloop import Pool

async def main():
    async with Pool(1, plugins=[FlagsPlugin], memory_limit="64MiB") as pool:
        worker = json.loads(bytes(await pool.run(b"", [Flags()])))
    flags = {name: getattr(sys.flags, name) for name in worker["flags"]}
    own = {"flags": flags, "options": sys._xoptions, "warnings": sys.warnoptions, "path": sys.path, "prefix": sys.prefix}
    print(json.dumps({"worker": worker, "server": own}))

anyio.run(main)
"""
SET_PATH = f"import sys; sys.path[:] = {[*sys.path, str(HERE)]!r}\n"
ALWAYS = {"safe_path", "isolated", "ignore_environment"}  # a worker has `-P` in any case, which is part of `-I`


def said_by(*command: str, **environment: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What worker and server say of their interpreters."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | environment
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, env=variables, cwd="/")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return said["worker"], said["server"]


FLAGS = {
    "optimized, no bytecode, no site of the user": ["-OO", "-B", "-s"],
    "no environment, safe path, bytes warnings": ["-E", "-P", "-bb"],
    "isolated": ["-I"],
    "no site": ["-S"],
    "development mode": ["-X", "dev"],
    "options": ["-X", "utf8", "-X", "no_debug_ranges", "-X", "int_max_str_digits=5000", "-X", "of=us"],
    "warnings": ["-W", "error::BytesWarning", "-W", "ignore:a message:UserWarning"],
    "many": ["-I", "-S", "-O", "-X", "utf8", "-W", "ignore::UserWarning"],
}


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_a_worker_has_the_flags_of_its_server(flags: list[str]) -> None:
    worker, server = said_by(sys.executable, *flags, "-c", SET_PATH + SERVER)
    assert {name: value for name, value in worker["flags"].items() if name not in ALWAYS} == {
        name: value for name, value in server["flags"].items() if name not in ALWAYS
    }
    assert worker["flags"]["safe_path"]
    if "-I" in flags:
        assert worker["flags"]["isolated"]
    assert worker["options"] == server["options"] | {"faulthandler": True}
    assert worker["warnings"] == server["warnings"]
    assert worker["path"] == server["path"]
    assert worker["argv"] == ["-c"], "plugin code that reads arguments finds none"


def test_a_path_that_was_set_by_hand_is_the_workers_too(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise ImportError('not this one')\n")
    worker, server = said_by(sys.executable, "-c", SET_PATH + SERVER, PYTHONPATH="")
    assert worker["path"] == server["path"]


def test_what_only_the_environment_of_a_worker_names_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise ImportError('not this one')\n")
    change = f"import os; os.environ['PYTHONPATH'] = {str(tmp_path)!r}\n"  # too late for the server
    worker, server = said_by(sys.executable, "-c", SET_PATH + change + SERVER)
    assert worker["path"] == server["path"]


def test_a_zipapp_finds_what_is_in_it(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "flags_plugin.py").write_text((HERE / "flags_plugin.py").read_text())
    (inside / "__main__.py").write_text(SERVER)
    archive = tmp_path / "server.pyz"
    zipapp.create_archive(inside, archive)
    worker, server = said_by(sys.executable, str(archive))
    assert worker["path"] == server["path"]
    assert worker["path"][0] == str(archive)


def test_offloop_itself_may_be_in_a_zipapp(tmp_path: Path) -> None:
    """As shiv and PEX do: all of it in one place, which the program puts on the path."""
    package = Path(sys.modules["offloop"].__file__ or "").parent
    inside = tmp_path / "inside"
    for source in package.rglob("*.py"):
        copy = inside / "offloop" / source.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    (inside / "flags_plugin.py").write_text((HERE / "flags_plugin.py").read_text())
    others = [entry for entry in sys.path if "site-packages" in entry]  # anyio and msgspec
    path = f"import sys; sys.path += {others!r}\n"
    check = "import offloop; assert offloop.__file__.startswith(sys.argv[0])\n"
    (inside / "__main__.py").write_text(path + check + SERVER)
    archive = tmp_path / "server.pyz"
    zipapp.create_archive(inside, archive)
    worker, server = said_by(sys.executable, "-S", str(archive))
    assert worker["path"] == server["path"]
    assert worker["offloop"].startswith(str(archive))


def test_the_venv_of_the_server_is_the_workers() -> None:
    worker, server = said_by(sys.executable, "-c", SET_PATH + SERVER)
    assert worker["prefix"] == server["prefix"]
