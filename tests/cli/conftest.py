"""Fixtures: the command line in a child process, and picture files."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import pyvips

import offloop

Completed: TypeAlias = subprocess.CompletedProcess[str]
CommandLine: TypeAlias = Callable[..., Completed]
Drawing: TypeAlias = Callable[..., Path]

SOURCES = Path(offloop.__file__).parents[1]


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    """A function that runs `offloop ...` in the test's directory until it ends."""

    def run(*arguments: str | Path, **options: Any) -> Completed:
        command = [sys.executable, "-m", "offloop.cli", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=40, check=False, **options)

    return run


@pytest.fixture
def draw(tmp_path: Path) -> Drawing:
    """A function that makes a picture file in the test's directory. The format is that of `suffix`, or else of the name."""

    def make(name: str, width: int = 60, height: int = 40, *, suffix: str | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        grey: Any = pyvips.Image.gaussnoise(width, height, mean=128, sigma=30)
        image = grey.cast("uchar").bandjoin([grey.cast("uchar").fliphor(), grey.cast("uchar").flipver()])
        path.write_bytes(image.copy(interpretation="srgb").write_to_buffer(suffix or path.suffix))
        return path

    return make


@pytest.fixture
def measure() -> Callable[[Path], tuple[str, int, int]]:
    """A function that returns a picture file's format, by its contents, and its width and height."""

    def read_header(path: Path) -> tuple[str, int, int]:
        image: Any = pyvips.Image.new_from_file(str(path))
        loader = str(image.get("vips-loader")).removesuffix("load").removesuffix("_source")
        return {"heif": "avif"}.get(loader, loader), image.width, image.height

    return read_header


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment for `python -S` with all installed packages except the plugins, in `tmp_path / "site"`."""
    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if entry.suffix != ".pth" and not entry.name.startswith(("offloop_", "__")):
            (site / entry.name).symlink_to(entry)
    if not (site / "offloop").exists():  # installed in place
        (site / "offloop").symlink_to(SOURCES / "offloop")
    return {**os.environ, "PYTHONPATH": str(site)}
