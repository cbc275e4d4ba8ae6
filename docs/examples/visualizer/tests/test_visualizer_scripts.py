"""The scripts and the fragment of the tutorial, as a reader runs them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from offloop_visualizer.beats import find_beats
from offloop_visualizer.wav import Wav

EXAMPLE = Path(__file__).parents[1]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLE / name), *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("music") / "song.wav"
    assert run("demo_song.py", path).endswith("s at 126 beats per minute\n")
    return path


def test_the_beats_of_the_demo_song_are_found(song: Path) -> None:
    wav = Wav.parse(memoryview(song.read_bytes()))
    beats = find_beats(wav, 0, wav.count, lambda: None)
    assert beats.tempo_bpm == pytest.approx(126, rel=0.005)
    assert len(beats.times_s) == 50


def test_a_video_has_the_frames_and_the_sound(song: Path, tmp_path: Path) -> None:
    told = run(
        "make_video.py", song, tmp_path / "video.mp4", "--width=192", "--height=108", "--fps=15", "--start-s=5", "--seconds=2"
    )
    assert "30/30 frames" in told
    assert re.search(r"video\.mp4: 30 frames, [\d,]+ bytes\n$", told)
    container: Any
    with av.open(str(tmp_path / "video.mp4")) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        sound = container.streams.audio[0]
        assert float(sound.duration * sound.time_base) == pytest.approx(2, abs=0.1)
    assert {picture.shape for picture in pictures} == {(108, 192, 3)}
    assert len(pictures) == 30
    assert pictures[10].std() > 10


def test_a_terminal_shows_frames(song: Path) -> None:
    told = run("show_live.py", song, "--seconds=0.5")
    assert re.search(r"\d+ frames shown, \d+ dropped, at [\d.]+ beats per minute\n$", told)
    assert "\x1b[38;2;" in told


@pytest.mark.anyio
async def test_the_live_fragment_of_the_tutorial_runs(song: Path) -> None:
    sent: list[bytes] = []

    class Socket:
        async def send_bytes(self, data: memoryview) -> None:
            sent.append(bytes(data))

    (live,) = [text for text in fragments() if "async with" in text]
    names: dict[str, Any] = {"song": song, "websocket": Socket()}
    code = compile(live.replace('pace="live"', 'pace="live", seconds=0.5'), "fragment", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(code, names)
    assert 1 <= len(sent) <= 15
    assert {data[:2] for data in sent} == {b"\xff\xd8"}


def test_the_other_fragments_of_the_tutorial_are_lines_of_the_package() -> None:
    sources = [path.read_text() for path in (EXAMPLE / "src").rglob("*.py")]
    lines = {line.strip() for source in sources for line in source.splitlines()}
    shown = [text for text in fragments() if "async with" not in text]
    assert len(shown) == 3
    assert [line for text in shown for line in text.splitlines() if line.strip() not in {"", "...", *lines}] == []


def fragments() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (EXAMPLE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
