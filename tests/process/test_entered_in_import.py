"""A pool that is entered while a module is imported, with plugins that need that module, does not wait for the import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
from offloop import Operation, Plugin

class Same(Operation, frozen=True):
    pass

class SamePlugin(Plugin):
    name = "same"
    operations = (Same,)
    processor = "app:SameProcessor"

class SameProcessor:
    def open(self, worker): pass
    def run(self, payload, operations, task): return payload
"""

USE = """
import os
import anyio
from anyio.from_thread import start_blocking_portal
from offloop import Pool, PluginError

async def use(plugin):
    async with Pool(1, plugins=[plugin]) as pool:
        print(bytes((await pool.run(b"abc", [Same()])).data))

def use_in_portal(plugin):
    with start_blocking_portal() as portal:
        portal.call(use, plugin)

IS_SERVER = "OFFLOOP_WORKER_ID" not in os.environ
"""


def imported(folder: Path, **modules: str) -> str:
    """What a program printed that imports the module `app`."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-c", "import app"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("plugin", ["SamePlugin", "SamePlugin()", "'app:SamePlugin'"])
@pytest.mark.parametrize("call", ["anyio.run(use, {})", "use_in_portal({})"])
def test_a_plugin_of_the_module_that_is_imported_is_used(tmp_path: Path, plugin: str, call: str) -> None:
    assert imported(tmp_path, app=f"{PLUGIN}{USE}if IS_SERVER: {call.format(plugin)}") == "b'abc'\n"


def test_a_plugin_that_imports_the_module_that_is_imported_is_used(tmp_path: Path) -> None:
    other = f"import app\n{PLUGIN.replace('app:', 'other:')}"
    enter = "if IS_SERVER:\n    anyio.run(use, 'other:SamePlugin')"
    app = USE.replace("Same()", "__import__('other').Same()")
    assert imported(tmp_path, app=f"{app}{enter}", other=other) == "b'abc'\n"


ENTER_TOO_EARLY = """
if IS_SERVER:
    try:
        anyio.run(use, "app:SamePlugin")
    except PluginError as error:
        print(error)
"""


def test_a_plugin_that_is_defined_later_is_an_error(tmp_path: Path) -> None:
    printed = imported(tmp_path, app=f"{USE}{ENTER_TOO_EARLY}{PLUGIN}")
    assert "module 'app' has no attribute 'SamePlugin'" in printed
