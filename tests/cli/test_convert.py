"""`offloop convert`: outputs, refusals, signals, exit codes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeAlias

import pytest
import pyvips
from mount_namespace import run_with_shared_memory_of, skip_without_mount_namespaces

CommandLine: TypeAlias = Callable[..., subprocess.CompletedProcess[str]]
Drawing: TypeAlias = Callable[..., Path]
Measure: TypeAlias = Callable[[Path], tuple[str, int, int]]

PHOTOS = Path(__file__).parents[2] / "docs" / "photos"
CONVERT = [sys.executable, "-m", "offloop.cli", "convert"]

# The child itself sets its controlling terminal and executes the command, because Popen could do that only by forking Python.
IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_tree_is_converted_and_its_structure_is_kept(
    command_line: CommandLine, draw: Drawing, measure: Measure, tmp_path: Path
):
    draw("in/a.jpg")
    draw("in/2024/b.PNG", suffix=".png")
    (tmp_path / "in/readme.txt").write_text("not a picture")
    ended = command_line("convert", "in", "--out", "out", "--to", "webp", "--workers", "1")
    assert (ended.returncode, "2 converted, 0 failed" in ended.stderr) == (0, True), ended.stderr
    assert files(tmp_path / "out") == {"a.webp", "2024/b.webp"}
    assert measure(tmp_path / "out/2024/b.webp") == ("webp", 60, 40)
    assert sorted(line.split(" (")[0] for line in ended.stdout.splitlines()) == [
        "in/2024/b.PNG -> out/2024/b.webp",
        "in/a.jpg -> out/a.webp",
    ]


def test_people_are_cut_out(command_line: CommandLine, measure: Measure, tmp_path: Path):
    shutil.copy(PHOTOS / "astronaut.jpg", tmp_path / "a.jpg")
    for options in (["--out", "out"], ["--out", "white", "--to", "jpeg"]):
        ended = command_line("convert", "a.jpg", *options, "--remove-background", "--resize", "100", "--workers", "1")
        assert (ended.returncode, ended.stderr.count("1 converted, 0 failed")) == (0, 1), ended.stderr
    assert measure(tmp_path / "out/a.png") == ("png", 100, 100)
    cut, white = (pyvips.Image.new_from_file(str(tmp_path / name)) for name in ("out/a.png", "white/a.jpg"))
    assert cut(3, 3)[3] == 0
    assert cut(45, 25)[3] == 255
    assert min(white(3, 3)) > 250


def test_without_a_format_each_file_keeps_its_own(command_line: CommandLine, draw: Drawing, measure: Measure, tmp_path: Path):
    draw("a.JPEG", suffix=".jpg")
    draw("b.png")
    draw("c.gif")
    draw("nameless", suffix=".webp")
    ended = command_line("convert", "a.JPEG", "b.png", "c.gif", "nameless", "--out", "out", "--workers", "1")
    assert ended.returncode == 0, ended.stderr
    formats = {name: measure(tmp_path / "out" / name)[0] for name in files(tmp_path / "out")}
    assert formats == {"a.JPEG": "jpeg", "b.png": "png", "c.png": "png", "nameless": "webp"}


def test_gif_and_tiff_are_made_on_request(command_line: CommandLine, draw: Drawing, measure: Measure, tmp_path: Path):
    draw("in/a.png", 60, 40)
    for to, name, made in (("gif", "a.gif", "gif"), ("tiff", "a.tif", "tiff"), ("tif", "a.tif", "tiff")):
        ended = command_line("convert", "in", "--out", f"out-{to}", "--to", to, "--resize", "30", "--workers", "1")
        assert ended.returncode == 0, ended.stderr
        assert files(tmp_path / f"out-{to}") == {name}
        assert measure(tmp_path / f"out-{to}" / name) == (made, 30, 20)
    transparent = pyvips.Image.xyz(8, 8).bandjoin([9, 77]).cast("uchar").copy(interpretation="srgb")  # type: ignore[attr-defined]
    transparent.write_to_file(str(tmp_path / "alpha.png"))
    assert command_line("convert", "alpha.png", "--out", "alpha", "--to", "tiff", "--workers", "1").returncode == 0
    assert pyvips.Image.new_from_file(str(tmp_path / "alpha/alpha.tif"))(5, 3) == [5, 3, 9, 77]


def test_an_animation_is_kept_or_the_frames_left_out_are_told(command_line: CommandLine, tmp_path: Path):
    script = (
        "import pyvips; image = pyvips.Image.xyz(8, 24).bandjoin(0).cast('uchar').copy(interpretation='srgb');"
        "image.set_type(pyvips.GValue.gint_type, 'page-height', 8); image.write_to_file('a.webp', lossless=True)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert warnings_of(command_line("convert", "a.webp", "--out", "kept", "--workers", "1")) == []
    count = "import pyvips; print(pyvips.Image.new_from_file('kept/a.webp').get('n-pages'))"
    assert (
        subprocess.run([sys.executable, "-c", count], cwd=tmp_path, check=True, capture_output=True, text=True).stdout == "3\n"
    )
    assert warnings_of(command_line("convert", "a.webp", "--out", "kept", "--to", "gif", "--workers", "1")) == []
    count = count.replace("a.webp", "a.gif")
    assert (
        subprocess.run([sys.executable, "-c", count], cwd=tmp_path, check=True, capture_output=True, text=True).stdout == "3\n"
    )
    (line,) = warnings_of(command_line("convert", "a.webp", "--out", "left", "--to", "png", "--workers", "1"))
    assert line == "warning: a.webp: 2 pages or frames were left out, because a .png file has one"
    ended = command_line("convert", "a.webp", "--out", "small", "--max-pixels", "100", "--workers", "1")
    assert (ended.returncode, "the limit is 100" in ended.stderr) == (1, True), ended.stderr


def test_pictures_are_made_smaller_and_never_larger(command_line: CommandLine, draw: Drawing, measure: Measure, tmp_path: Path):
    draw("in/large.png", 60, 40)
    draw("in/small.png", 20, 10)
    assert command_line("convert", "in", "--out", "out", "--resize", "30", "--workers", "1").returncode == 0
    assert measure(tmp_path / "out/large.png") == ("png", 30, 20)
    assert measure(tmp_path / "out/small.png") == ("png", 20, 10)


def warnings_of(ended: subprocess.CompletedProcess[str]) -> list[str]:
    assert (ended.returncode, "1 converted, 0 failed" in ended.stderr) == (0, True), ended.stderr
    return [line for line in ended.stderr.splitlines() if "1 converted" not in line]


def test_a_memory_limit_that_workers_alone_exceed_is_warned_of_once(command_line: CommandLine, draw: Drawing):
    draw("a.png")
    assert warnings_of(command_line("convert", "a.png", "--out", "out", "--workers", "1")) == []
    (line,) = warnings_of(command_line("convert", "a.png", "--out", "out", "--workers", "1", "--memory-limit", "20MB"))
    assert re.fullmatch(
        "warning: memory_limit is 20,000,000 bytes, but processes of idle workers \\(1\\) and a task need [\\d,]+: .*", line
    )


def test_a_memory_limit_beyond_the_machines_is_warned_of(command_line: CommandLine, draw: Drawing):
    draw("a.png")
    lines = warnings_of(command_line("convert", "a.png", "--out", "out", "--workers", "1", "--memory-limit", "60TB"))
    begin = "warning: memory_limit is 60,000,000,000,000 bytes, but"
    assert [re.sub(r"[\d,]+: .*", "", line.removeprefix(begin)) for line in lines] == [
        " this process may use ",
        " sources and results have ",
    ]


def test_a_memory_limit_that_shared_memory_cannot_keep_is_warned_of_once(draw: Drawing, tmp_path: Path):
    skip_without_mount_namespaces()
    arguments = ["convert", str(draw("a.png")), "--out", str(tmp_path / "out"), "--workers", "1", "--memory-limit", "256MiB"]
    script = f"import sys; from offloop.cli import main; sys.argv[1:] = {arguments}; sys.exit(main())"
    (line,) = warnings_of(run_with_shared_memory_of("64m", script))
    begin = "warning: memory_limit is 268,435,456 bytes, but sources and results have 60,397,977:"
    assert line.startswith(begin)


def test_quality_reaches_the_encoder(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    source = draw("a.png", 200, 200)
    for quality in ("5", "95"):
        assert command_line("convert", source, "--out", quality, "--to", "jpeg", "--quality", quality).returncode == 0
    assert (tmp_path / "5/a.jpg").stat().st_size * 2 < (tmp_path / "95/a.jpg").stat().st_size


def test_each_failure_is_listed_by_name_and_the_other_files_are_written(
    command_line: CommandLine, draw: Drawing, tmp_path: Path
):
    draw("in/good.jpg")
    (tmp_path / "in/bad.jpg").write_bytes(b"no picture at all")
    ended = command_line("convert", "in", "missing.jpg", "--out", "out", "--workers", "1")
    assert ended.returncode == 1
    assert files(tmp_path / "out") == {"good.jpg"}
    failures = [line for line in ended.stderr.splitlines() if line.startswith("failed: ")]
    assert sorted(line.split(": ")[1] for line in failures) == ["in/bad.jpg", "missing.jpg"]
    assert "[unsupported_format]" in ended.stderr
    assert "No such file or directory" in ended.stderr
    assert "1 converted, 2 failed" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_two_sources_of_one_output_are_both_named_and_nothing_is_converted(
    command_line: CommandLine, draw: Drawing, tmp_path: Path
):
    draw("in/a.jpg")
    draw("in/a.png")
    ended = command_line("convert", "in", "--out", "out", "--to", "webp", "--workers", "1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "in/a.jpg and in/a.png would both write out/a.webp" in ended.stderr
    assert not (tmp_path / "out").exists()
    ended = command_line("convert", "in", "--out", "out", "--to", "webp", "--workers", "1", "--name", "{stem}-{suffix}.{ext}")
    assert ended.returncode == 0, ended.stderr
    assert files(tmp_path / "out") == {"a-jpg.webp", "a-png.webp"}


def test_no_output_replaces_a_source(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    jpeg, webp = draw("a.jpg").read_bytes(), draw("a.webp").read_bytes()
    ended = command_line("convert", "a.jpg", "a.webp", "--out", ".", "--to", "webp", "--workers", "1")
    assert (ended.returncode, ended.stderr.count("would replace a source")) == (1, 2)
    ended = command_line("convert", "a.jpg", "--out", ".", "--workers", "1")
    assert (ended.returncode, ended.stderr.count("would replace a source")) == (1, 1)
    assert ((tmp_path / "a.jpg").read_bytes(), (tmp_path / "a.webp").read_bytes()) == (jpeg, webp)


def test_outputs_below_a_source_are_not_converted_again(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    draw("a.jpg")
    for _ in range(2):
        assert command_line("convert", ".", "--out", "out", "--to", "webp", "--workers", "1").returncode == 0
    assert files(tmp_path / "out") == {"a.webp"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in", "--out", "out", "--resize", "0"], "0 is not in the range"),
        (["in", "--out", "out", "--to", "bmp"], "'bmp' is not one of 'webp', 'jpeg', 'jpg', 'png', 'avif'"),
        (["in", "--out", "out", "--quality", "101"], "101 is not in the range"),
        (["in", "--out", "out", "--quality", "5", "--to", "png"], "--quality has no effect on PNG"),
        (["in", "--out", "out", "--quality", "5", "--to", "gif"], "--quality has no effect on GIF"),
        (["in", "--out", "out", "--memory-limit", "much"], "'much' is not a size"),
        (["in", "--out", "out", "--timeout", "0"], "0.0 is not in the range"),
        (["in", "--out", "in"], "is the source in, whose pictures would be replaced"),
        (["empty", "--out", "out"], "no pictures were found"),
        (["in", "--out", "out", "--resize", "320,x"], "'x' is not a valid integer"),
        (["in", "--out", "out", "--name", "{ext}"], "it must have {stem}"),
        (["in", "--out", "out", "--name", "../{stem}"], "it is the name of a file"),
        (["in", "--out", "out", "--name", "{stem}{width}"], "it may have {stem}, {suffix}, {ext}, and not {width}"),
        (["in", "--out", "out", "--name", "{stem", "--dry-run"], "expected '}'"),
        (["in", "--out", "out", "--resize", "9,8", "--name", "{stem}"], "it must have {width}"),
        (["in", "--out", "out", "--json", "--quiet"], "leave one of them out"),
        (["in"], "Missing option '--out'"),
        (["--out", "out"], "Missing argument 'SOURCES...'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
)
def test_bad_usage_is_explained_and_starts_nothing(
    command_line: CommandLine, draw: Drawing, tmp_path: Path, arguments: list[str], message: str
):
    draw("in/a.jpg")
    (tmp_path / "empty").mkdir()
    ended = command_line("convert", *arguments)
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_name_cannot_write_to_the_terminal(command_line: CommandLine, draw: Drawing, tmp_path: Path):
    draw("in/\x1b[31mred\n.jpg")
    undecodable = os.path.join(os.fsencode(tmp_path), b"in/\xff.jpg")
    Path(os.fsdecode(undecodable)).write_bytes(b"no picture")
    ended = command_line("convert", "in", "--out", "out", "--workers", "1")
    assert (ended.returncode, ended.stderr.count("failed: ")) == (1, 1)
    assert "in/\\x1b[31mred\\n.jpg -> " in ended.stdout
    assert "failed: in/\\udcff.jpg: " in ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr


def test_the_files_are_written_when_stdout_is_closed(draw: Drawing, tmp_path: Path):
    for number in range(5):
        draw(f"in/{number}.png")
    with started("in", "--out", "out", "--workers", "1", directory=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=20) == 0  # the summary fits into the pipe
        said = process.stderr.read()
    assert "5 converted, 0 failed" in said
    assert "Error" not in said
    assert len(files(tmp_path / "out")) == 5


@pytest.mark.parametrize(("signum", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_without_a_traceback_or_a_partial_file(draw: Drawing, tmp_path: Path, signum: int, exit_code: int):
    slow(draw)
    with started("in", "--out", "out", "--to", "avif", "--workers", "1", directory=tmp_path) as process:
        assert process.stdout is not None
        assert "in/0.png" in process.stdout.readline()
        process.send_signal(signum)
        _, said = process.communicate(timeout=20)
    assert process.returncode == exit_code, said
    assert "interrupted: 1 converted, 0 failed" in said
    assert "Traceback" not in said
    assert files(tmp_path / "out") == {"0.avif"}


def test_a_signal_leaves_only_complete_files_of_several_widths(draw: Drawing, measure: Measure, tmp_path: Path):
    slow(draw)
    options = ["--to", "avif", "--resize", "20,1900", "--workers", "1"]
    with started("in", "--out", "out", *options, directory=tmp_path) as process:
        assert process.stdout is not None
        assert "in/0.png -> out/0-20w.avif, out/0-1900w.avif" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, "interrupted: 1 converted" in said) == (130, True), said
    written = {name: measure(tmp_path / "out" / name)[1] for name in files(tmp_path / "out")}
    written.pop("1-20w.avif", None)  # may be complete
    assert written == {"0-20w.avif": 20, "0-1900w.avif": 60}


def test_ctrl_c_in_a_terminal_ends_it(draw: Drawing, tmp_path: Path):
    slow(draw)
    with Terminal([*CONVERT, "in", "--out", "out", "--to", "avif", "--workers", "1"], tmp_path) as terminal:
        terminal.read_until("0.avif")
        terminal.type(b"\x03\x03")
        terminal.read_until("interrupted: 1 converted")
        assert terminal.wait() == 130
    assert "Traceback" not in terminal.text
    assert files(tmp_path / "out") == {"0.avif"}


def test_a_terminal_shows_a_bar_and_the_lines_above_it(draw: Drawing, tmp_path: Path):
    draw("in/a.png")
    draw("in/b.png")
    with Terminal([*CONVERT, "in", "--out", "out", "--workers", "1"], tmp_path) as terminal:
        terminal.read_until("2 converted, 0 failed")
        assert terminal.wait() == 0
    assert "━" in terminal.text
    assert re.search(r"2/2 .* \d+\.\d/s", terminal.text)
    assert "in/a.png -> out/a.png" in terminal.text


def test_without_offloop_vips_the_error_names_the_package_to_install(
    command_line: CommandLine, bare: dict[str, str], tmp_path: Path
):
    command = [sys.executable, "-S", "-m", "offloop.cli", "convert", "a.jpg", "--out", "out"]
    ended = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "Error: convert needs the plugin offloop-vips: pip install offloop-vips\n"


@contextmanager
def started(*arguments: str, directory: Path) -> Generator[subprocess.Popen[str]]:
    """A running command. It is killed at the end of the block."""
    command = [*CONVERT, *arguments]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def slow(draw: Drawing) -> None:
    """Makes a picture that is converted at once, and a picture whose encoder runs for many seconds and ignores a
    cancellation."""
    draw("in/0.png")
    draw("in/1.png", 2000, 1500)


class Terminal:
    """A command that runs in a terminal of its own."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self.text = ""
        self._master, slave = pty.openpty()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        starter = [sys.executable, "-c", IN_TERMINAL, *command]
        self._process = subprocess.Popen(
            starter, cwd=directory, env=environment, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def type(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def read_until(self, text: str) -> None:
        deadline = time.monotonic() + 20
        while text not in self.text:
            readable, _, _ = select.select([self._master], [], [], max(deadline - time.monotonic(), 0))
            assert readable, f"{text!r} was not shown: {self.text}"
            self.text += self._read()

    def wait(self) -> int:
        return self._process.wait(timeout=20)

    def _read(self) -> str:
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # the end of a terminal without a process
            data = b""
        assert data, f"it ended: {self.text}"
        return data.decode(errors="replace")
