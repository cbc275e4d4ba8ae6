"""The commands of docs/cluster.md for a cluster on a laptop, as they stand there, but for the port and the places of files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import PHOTOS, wait_until

PAGE = (Path(__file__).parents[3] / "docs" / "cluster.md").read_text()
COMMANDS = [text for language, text in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if not language]


def commands_with(word: str) -> str:
    (found,) = [block for block in COMMANDS if word in block]
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment whose commands are those of this Python."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}


@pytest.fixture
def laptop(tmp_path: Path, unused_port: int, environment: dict[str, str]) -> Iterator[int]:
    """Runs the three commands. Yields the port of the scheduler, and ends what they have started."""
    lines = commands_with("dask scheduler").splitlines()
    assert len(lines) == 3
    assert all(line.endswith(" &") for line in lines)
    script = "\n".join(lines).replace("8786", str(unused_port))
    log = tmp_path / "log"
    with log.open("w") as file:
        # the shell waits for its children, and the signal is for the whole group
        shell = subprocess.Popen(
            ["sh", "-euc", f"{script}\nwait"],
            stdout=file,
            stderr=file,
            cwd=tmp_path,
            env=environment,
            start_new_session=True,
        )
    try:
        yield unused_port
    finally:
        os.killpg(shell.pid, 15)
        shell.wait(30)
        wait_until(lambda: not _group(shell.pid), f"processes are left:\n{log.read_text()}")


def _group(group: int) -> list[str]:
    found: list[str] = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(entry)
    return found


@pytest.mark.timeout(120)
def test_three_commands_are_a_cluster_and_a_fourth_makes_thumbnails(
    laptop: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("coffee.webp", "rocket.jpg"):
        (pictures / name).write_bytes((PHOTOS / name).read_bytes())
    command = commands_with("offloop cluster-map s3://photos").replace("8786", str(laptop))
    command = command.replace("s3://photos/2026", f"file://{pictures}").replace("s3://thumbnails", f"file://{tmp_path}/small")
    done = subprocess.run(
        ["sh", "-euc", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "2 results" in done.stdout
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == ["coffee.webp", "rocket.webp"]
