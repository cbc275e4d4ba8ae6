"""The environment of the peers: Python packages in a virtual environment and Node packages in a folder, below one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOT", "Peers", "found_here", "prepared"]

ROOT = Path(__file__).parents[2]
PYTHON_PEERS = ("loky", "pebble", "aiomultiprocess", "distributed", "ray")
NODE_PEERS = ("sharp", "piscina")


class Peers(NamedTuple):
    python: str  # the interpreter that has the Python peers
    packages: frozenset[str]  # Python peers that it has
    node_packages: str | None  # folder with `node_modules`; None without Node
    compiled: str | None = None  # an interpreter with a compiled offloop; None if it was not built


def found_here() -> Peers:
    """Returns the peers that the running interpreter has."""
    return Peers(sys.executable, frozenset(name for name in PYTHON_PEERS if find_spec(name)), None)


def prepared(folder: Path, *, with_compiled: bool) -> Peers:
    """Install offloop and all peers into the folder, or find them there. A peer that cannot be installed is left out.

    Args:
        folder: where the environments are.
        with_compiled: whether offloop is compiled as well, which takes minutes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "venv" / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    _install(python, "-e", str(ROOT), "-e", str(ROOT / "plugins" / "offloop-vips"), "numpy", "matplotlib")
    packages = frozenset(name for name in PYTHON_PEERS if _install(python, name, is_needed=False))
    compiled = _compiled(folder / "compiled") if with_compiled and shutil.which("cc") else None
    return Peers(str(python), packages, _node_packages(folder / "node"), compiled)


def _install(python: Path, *what: str, is_needed: bool = True, **environment: str) -> bool:
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *what]
    return subprocess.run(command, check=is_needed, env=os.environ | environment).returncode == 0


def _compiled(folder: Path) -> str:
    """Returns an interpreter with offloop as it is now, compiled."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        _install(python, str(ROOT), str(ROOT / "plugins" / "offloop-vips"), "numpy")
    again = ("--force-reinstall", "--no-deps")
    _install(python, *again, str(ROOT), str(ROOT / "plugins" / "offloop-vips"), HATCH_BUILD_HOOKS_ENABLE="true")
    return str(python)


def _node_packages(folder: Path) -> str | None:
    if shutil.which("npm") is None:
        return None
    folder.mkdir(exist_ok=True)
    if not all((folder / "node_modules" / name).exists() for name in NODE_PEERS):
        # npm takes the folder above for the project unless this one is one
        (folder / "package.json").write_text("{}")
        if subprocess.run(["npm", "install", "--silent", *NODE_PEERS], cwd=folder, check=False).returncode:
            return None
    return str(folder)
