"""`offloop convert`: options for names, sizes, existing outputs, and what is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

CommandLine: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
Drawing: TypeAlias = Callable[..., Path]
Measure: TypeAlias = Callable[[Path], tuple[str, int, int]]


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def objects(ended: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    """The objects of `--json`, by source."""
    found = [json.loads(line) for line in ended.stdout.splitlines()]
    return {entry.pop("source"): entry for entry in found}


def test_json_has_one_line_for_each_file(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    draw("in/\u732b.png")
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    ended = command_line("convert", "in", "missing.png", "--out", "out", "--to", "jpg", "--json", "--workers", "1")
    assert (ended.returncode, len(ended.stdout.splitlines())) == (1, 3), ended.stderr
    found = objects(ended)
    output = tmp_path / "out/\u732b.jpg"
    assert found["in/\u732b.png"] == {
        "status": "converted",
        "outputs": ["out/\u732b.jpg"],
        "nbytes_in": (tmp_path / "in/\u732b.png").stat().st_size,
        "nbytes_out": output.stat().st_size,
        "pages_left_out": 0,
    }
    assert {name: entry["status"] for name, entry in found.items() if entry["status"] != "converted"} == {
        "in/bad.png": "failed",
        "missing.png": "failed",
    }
    assert "[unsupported_format]" in found["in/bad.png"]["reason"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    draw("in/a.png")
    draw("in/b.png")
    draw("out/b.png")
    ended = command_line("convert", "in", "--out", "out", "--skip-existing", "--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "in/a.png -> out/a.png\n")
    assert ended.stderr == "1 would be converted, 0 failed, 1 skipped\n"
    assert files(tmp_path / "out") == {"b.png"}


def test_existing_outputs_are_replaced_or_left_alone(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    draw("in/a.png")
    draw("in/b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"old")
    ended = command_line("convert", "in", "--out", "out", "--skip-existing", "--workers", "1")
    assert (ended.returncode, "1 converted, 0 failed, 1 skipped" in ended.stderr) == (0, True), ended.stderr
    assert (tmp_path / "out/a.png").read_bytes() == b"old"
    assert command_line("convert", "in/a.png", "--out", "out", "--workers", "1").returncode == 0
    assert (tmp_path / "out/a.png").read_bytes() != b"old"


def test_nothing_is_started_when_all_outputs_exist(command_line: CommandLine, draw: Drawing):
    draw("a.png")
    draw("out/a.png")
    ended = command_line("convert", "a.png", "--out", "out", "--skip-existing", "--json")
    assert (ended.returncode, objects(ended)["a.png"]["status"]) == (0, "skipped")


def test_a_file_that_is_given_twice_is_converted_once(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    draw("in/a.png")
    (tmp_path / "link").symlink_to("in")
    ended = command_line("convert", "in", "in/a.png", "./in/../in/a.png", "link/a.png", "--out", "out", "--dry-run")
    assert (ended.returncode, ended.stdout) == (0, "in/a.png -> out/a.png\n"), ended.stderr


def test_several_widths_are_written_beside_each_other(
    command_line: CommandLine, draw: Drawing, measure: Measure, tmp_path: Path
):
    draw("in/a.png", 60, 90)
    (tmp_path / "in/bad.png").write_bytes(b"no picture")
    ended = command_line("convert", "in", "--out", "out", "--to", "webp", "--resize", "10,20,200", "--json", "--workers", "1")
    found = objects(ended)
    assert (ended.returncode, found["in/bad.png"]["status"]) == (1, "failed"), ended.stderr
    sizes = {name: measure(tmp_path / "out" / name) for name in files(tmp_path / "out")}
    assert sizes == {"a-10w.webp": ("webp", 10, 15), "a-20w.webp": ("webp", 20, 30), "a-200w.webp": ("webp", 60, 90)}
    assert found["in/a.png"]["outputs"] == ["out/a-10w.webp", "out/a-20w.webp", "out/a-200w.webp"]
    assert found["in/a.png"]["nbytes_out"] == sum((tmp_path / "out" / name).stat().st_size for name in sizes)


def test_only_missing_widths_are_written_when_existing_outputs_are_left_alone(
    command_line: CommandLine, draw: Drawing, tmp_path: Path
):
    draw("a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a-10w.png").write_bytes(b"old")
    ended = command_line("convert", "a.png", "--out", "out", "--resize", "10,20", "--skip-existing", "--workers", "1")
    assert ended.returncode == 0, ended.stderr
    assert files(tmp_path / "out") == {"a-10w.png", "a-20w.png"}
    assert (tmp_path / "out/a-10w.png").read_bytes() == b"old"


def test_options_come_before_those_of_a_preset(command_line: CommandLine, draw: Drawing, measure: Measure, tmp_path: Path):
    draw("a.png", 400, 100)
    for out, options in {"x": [], "y": ["--to", "jpg"], "z": ["--resize", "50"]}.items():
        ended = command_line("convert", "a.png", "--out", out, "--preset", "thumbnail", *options, "--workers", "1")
        assert ended.returncode == 0, ended.stderr
    assert measure(tmp_path / "x/a.webp") == ("webp", 320, 80)
    assert measure(tmp_path / "y/a.jpg") == ("jpeg", 320, 80)
    assert measure(tmp_path / "z/a.webp")[1] == 50


def test_quiet_shows_failures_only(command_line: CommandLine, draw: Drawing):
    draw("a.png")
    ended = command_line("convert", "a.png", "missing.png", "--out", "out", "--quiet", "--workers", "1")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "failed: missing.png: cannot be read: No such file or directory\n"


def test_the_summary_says_how_many_bytes_were_saved(command_line: CommandLine, draw: Drawing):
    draw("a.png", 300, 300)
    draw("b.jpg", 300, 300)
    for source, to, word in (("a.png", "jpeg", "saved"), ("b.jpg", "png", "more")):
        ended = command_line("convert", source, "--out", "out", "--to", to, "--workers", "1")
        assert f" kB {word}) in " in ended.stderr.splitlines()[-1], ended.stderr


def test_outputs_that_are_larger_are_dropped(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    draw("in/a.jpg", 200, 200)
    draw("in/b.png", 20, 20)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"old")
    (tmp_path / "out/b.png").write_bytes(b"old")
    (tmp_path / "out/b.png").chmod(0o640)
    options = ["--to", "png", "--resize", "200", "--skip-larger", "--json", "--workers", "1"]
    ended = command_line("convert", "in/a.jpg", "in/b.png", "--out", "out", *options)
    found = objects(ended)
    assert found["in/a.jpg"] == {"status": "skipped", "reason": "its output is larger"}, ended.stderr
    assert (found["in/b.png"]["status"], "1 converted, 0 failed, 1 skipped" in ended.stderr) == ("converted", True)
    assert files(tmp_path / "out") == {"a.png", "b.png"}
    assert set(os.listdir(tmp_path / "out")) == {"a.png", "b.png"}
    assert (tmp_path / "out/a.png").read_bytes() == b"old"
    assert (tmp_path / "out/b.png").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "out/b.png").read_bytes() != b"old"


def test_larger_widths_are_dropped(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    draw("a.jpg", 200, 200)
    options = ["--to", "png", "--resize", "10,200", "--skip-larger", "--workers", "1"]
    ended = command_line("convert", "a.jpg", "--out", "out", *options)
    assert (ended.returncode, os.listdir(tmp_path / "out")) == (0, ["a-10w.png"]), ended.stderr


def from_stdin(source: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "offloop.cli", "convert", "-", *options, "--workers", "1"]
    return subprocess.run(command, input=source.read_bytes(), capture_output=True, timeout=40, check=False)


def test_stdin_is_converted_to_stdout(draw: Drawing, measure: Measure, tmp_path: Path):
    ended = from_stdin(draw("a.png"), "--to", "webp", "--resize", "30")
    (tmp_path / "written").write_bytes(ended.stdout)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert measure(tmp_path / "written") == ("webp", 30, 20)
    assert from_stdin(draw("a.jpg")).stdout.startswith(b"\xff\xd8")


def test_stdin_that_is_no_picture_fails_and_writes_nothing(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"no picture")
    for options, reason in (([], b"failed: -: its format is unknown"), (["--to", "webp"], b"[unsupported_format]")):
        ended = from_stdin(tmp_path / "a", *options)
        assert (ended.returncode, ended.stdout, reason in ended.stderr) == (1, b"", True), ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "a.png", "--to", "webp"], "must be the only one"),
        (["-", "--out", "out"], "--out is about files"),
        (["-", "--skip-existing"], "--overwrite is about files"),
        (["-", "--resize", "1,2"], "--resize has several widths"),
    ],
)
def test_options_about_files_are_refused_for_stdin(command_line: CommandLine, arguments: list[str], message: str):
    ended = command_line("convert", *arguments, stdin=subprocess.DEVNULL)
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
