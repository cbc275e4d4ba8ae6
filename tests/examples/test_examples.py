"""The other examples in the documentation run, as a reader would run them."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import pyvips

from offloop import InvalidTask

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run(name: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-W", "error", EXAMPLES / name, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


def test_the_quickstart_makes_a_thumbnail(tmp_path: Path):
    source, destination = tmp_path / "photo.jpg", tmp_path / "thumbnail.webp"
    picture: Any = pyvips.Image.black(640, 480, bands=3)
    picture.write_to_file(str(source))
    assert run("quickstart.py", source, destination) == (f"{destination}: 320 x 320, {destination.stat().st_size:,} bytes\n")
    thumbnail: Any = pyvips.Image.new_from_file(str(destination))
    assert (thumbnail.get("vips-loader"), thumbnail.width, thumbnail.height) == ("webpload", 320, 320)


@pytest.mark.parametrize("nbytes", [0, 10, 1_000_000])
def test_the_custom_plugin_compresses_what_it_is_given(tmp_path: Path, nbytes: int):
    source = tmp_path / "some.log"
    source.write_bytes(b"a line\n" * (nbytes // 7) + b"." * (nbytes % 7))
    told = run("custom_plugin.py", source)
    before, after = (int(word.replace(",", "")) for word in told.split() if word[0].isdigit() and "bytes" not in word)
    assert before == nbytes
    assert after < max(nbytes, 20)
    assert told.endswith("application/zlib\n")


def test_the_custom_plugins_operation_is_checked_when_it_is_made():
    compress: Any = runpy.run_path(str(EXAMPLES / "custom_plugin.py"))["Compress"]
    with pytest.raises(InvalidTask, match="Compress\\(level=11\\)"):
        compress(11)
