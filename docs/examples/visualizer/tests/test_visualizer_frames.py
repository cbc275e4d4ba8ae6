"""What the frames show, and which frames there are. All without a pool."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pytest

from offloop import Encoded, InvalidTask, Payload, Raster, TaskCancelled, TaskFailed
from offloop.testing import InlineTask, run_inline
from offloop_visualizer import Visualize, VisualizerPlugin
from offloop_visualizer.processor import VisualizerProcessor
from offloop_visualizer.ticks import Ticks

from .music import RATE, Samples, click_times, click_track, wav_file

SMALL: dict[str, Any] = {"width": 320, "height": 180}


class OneResult(InlineTask):
    """A task whose caller receives only its result."""

    def emit(self, payload: Payload, name: str | None = None) -> bool:
        return False


def frames_of(samples: Samples, operation: Visualize) -> list[Raster]:
    task = InlineTask()
    result = VisualizerProcessor().run(Encoded(memoryview(wav_file(samples))), [operation], task)
    assert (result, task.fraction) == (None, 1.0)
    return [cast("Raster", payload) for _, payload in task.emitted]


def pixels(frame: Raster) -> Any:
    return np.frombuffer(frame.data, "u1").reshape(frame.shape).astype(int)


def light(frame: Raster) -> float:
    return float(pixels(frame)[..., :3].mean())


def tone(hertz: float, seconds: float = 1.0) -> Samples:
    times_s: Samples = np.arange(round(seconds * RATE), dtype=np.float64) / RATE
    return 0.5 * np.sin(2 * np.pi * hertz * times_s)


def test_there_is_a_frame_for_each_tick_of_the_range() -> None:
    frames = frames_of(tone(440, 2.0), Visualize(**SMALL, fps=10, start_s=0.5, seconds=1.02))
    assert [frame.info["time_s"] for frame in frames] == pytest.approx([0.5 + number / 10 for number in range(11)])
    assert [(frame.info["tick"], frame.info["ticks"]) for frame in frames] == [(number, 11) for number in range(11)]
    assert {(frame.shape, frame.dtype) for frame in frames} == {((180, 320, 4), "|u1")}
    assert all((pixels(frame)[..., 3] == 255).all() for frame in frames)


def test_the_info_follows_the_beats() -> None:
    times_s = click_times(120, 3)
    frames = frames_of(click_track(times_s, 3), Visualize(64, 64, fps=20))
    for frame in frames:
        time_s: float = frame.info["time_s"]
        assert abs(frame.info["beat"] - np.searchsorted(times_s, time_s)) <= (np.abs(times_s - time_s).min() < 0.03)
    assert frames[0].info["tempo_bpm"] == pytest.approx(120, rel=0.01)
    assert max(frame.info["pulse"] for frame in frames) > 0.9


@pytest.mark.parametrize("palette", ["aurora", "ember", "ocean"])
def test_a_beat_is_brighter_than_the_time_before_it(palette: Any) -> None:
    samples = click_track(click_times(100, 5), 5)  # a beat each 0.6 s, from 0.25 s on
    frames = frames_of(samples, Visualize(**SMALL, fps=20, start_s=0.25 + 3 * 0.6 - 0.1, seconds=1.3, palette=palette))
    brightness = [light(frame) for frame in frames]
    assert brightness[3] > 1.2 * brightness[0]
    assert brightness[15] > 1.2 * brightness[12]


def test_low_tones_are_at_the_bottom_and_high_ones_at_the_top() -> None:
    for hertz, has_more_light in ((60, "bottom"), (8000, "top")):
        picture = pixels(frames_of(tone(hertz), Visualize(**SMALL, fps=1, start_s=0.5))[0])[..., :3].sum(axis=2)
        top, bottom = picture[20:50, 140:180].max(), picture[130:160, 140:180].max()
        assert (top > bottom + 100) == (has_more_light == "top"), (hertz, top, bottom)


def test_both_sides_have_the_same_bars() -> None:
    samples = tone(300) + 0.1 * tone(3000)
    picture = pixels(frames_of(samples, Visualize(**SMALL, fps=1))[0])[..., :3].max(axis=2)
    bars = picture[110:] > 150  # below the waveform
    assert 200 < bars.sum() < 5000
    assert (bars != bars[:, ::-1]).sum() < 0.1 * bars.sum()


def test_motion_is_smooth() -> None:
    random = np.random.default_rng(2)
    samples = click_track(click_times(120, 4), 4) + random.normal(0, 0.02, 4 * RATE)
    pictures = [pixels(frame) for frame in frames_of(samples, Visualize(**SMALL, fps=60, start_s=2.0, seconds=0.6))]
    changes = [np.abs(after - before)[..., :3].mean() for before, after in pairwise(pictures)]
    assert np.median(changes) < 3
    assert max(changes) < 30  # a beat
    assert min(changes) > 0


def test_edges_are_smooth() -> None:
    """A frame is close to one of four times as many pixels that was made smaller."""
    samples = tone(300) + 0.1 * tone(3000)
    small = pixels(frames_of(samples, Visualize(640, 360, fps=1))[0])
    large = pixels(frames_of(samples, Visualize(1280, 720, fps=1))[0])
    shrunk = large.reshape(360, 2, 640, 2, 4).mean(axis=(1, 3))
    difference = np.abs(small - shrunk)[..., :3].max(axis=2)
    assert difference.mean() < 4
    assert (difference > 100).mean() < 0.002


def test_frames_are_the_same_each_time() -> None:
    first, second = (frames_of(tone(500, 0.3), Visualize(**SMALL)) for _ in range(2))
    assert [bytes(frame.data) for frame in first] == [bytes(frame.data) for frame in second]


@pytest.mark.parametrize("size", [(64, 64), (101, 77), (64, 1000), (1500, 65)])
def test_every_size_is_drawn(size: tuple[int, int]) -> None:
    frame = frames_of(click_track(click_times(120, 3), 3), Visualize(*size, fps=1, start_s=2.26))[0]
    assert frame.shape == (size[1], size[0], 4)
    assert light(frame) > 5


def test_loud_music_stays_inside_the_frame() -> None:
    square: Samples = np.sign(tone(80))
    assert len(frames_of(square, Visualize(64, 64, fps=5))) == 5


def test_a_caller_of_run_gets_the_first_frame() -> None:
    source = Encoded(memoryview(wav_file(tone(440))))
    task = OneResult()
    poster = VisualizerProcessor().run(source, [Visualize(**SMALL, start_s=0.5)], task)
    assert isinstance(poster, Raster)
    assert task.info["time_s"] == 0.5


def test_hours_of_music_cost_what_is_drawn_of_them() -> None:
    task, file = InlineTask(), wav_file(np.zeros(3 * 3600 * 4000, "f4"), rate=4000, bits=8)
    VisualizerProcessor().run(Encoded(memoryview(file)), [Visualize(64, 64, start_s=10_000, seconds=0.1)], task)
    assert len(task.emitted) == 6


def test_a_cancelled_task_stops_between_two_frames() -> None:
    class Leaving(InlineTask):
        def progress(self, fraction: float) -> None:
            self.cancel()

    task = Leaving()
    with pytest.raises(TaskCancelled):
        VisualizerProcessor().run(Encoded(memoryview(wav_file(tone(440)))), [Visualize(64, 64)], task)
    assert len(task.emitted) == 1


def test_live_ticks_come_at_their_times_and_late_ones_are_skipped() -> None:
    times, slept, seen = [100.0], list[float](), list[int]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        times.append(times[-1] + seconds)

    for tick in Ticks(0.0, 10.0, 12, 0, RATE).paced(lambda: times[-1], sleep):
        seen.append(tick)
        times.append(times[-1] + (0.35 if tick == 4 else 0.02))
    assert seen == [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    assert slept[:3] == pytest.approx([0, 0.08, 0.08])


def test_a_start_behind_the_end_is_refused() -> None:
    with pytest.raises(TaskFailed, match=r"start_s=5: the music ends after 1\.000 s") as caught:
        run_inline(VisualizerProcessor(), Encoded(wav_file(tone(440))), [Visualize(start_s=5)])
    assert caught.value.code == "no_audio"


def test_samples_are_refused() -> None:
    with pytest.raises(InvalidTask, match="takes a WAV file"):
        run_inline(VisualizerProcessor(), Raster(bytes(8), (8,), "|u1"), [Visualize()])


@pytest.mark.parametrize(
    "wrong",
    [{"width": 63}, {"height": 5000}, {"fps": 0.5}, {"fps": float("nan")}, {"start_s": -1}, {"seconds": 0}, {"pace": "x"}],
)
def test_a_wrong_parameter_is_refused_when_the_operation_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidTask, match=f"Visualize\\({next(iter(wrong))}="):
        Visualize(**wrong)


def test_a_second_operation_is_refused() -> None:
    with pytest.raises(InvalidTask, match="use it once"):
        VisualizerPlugin().check([Visualize(), Visualize()])


def test_an_estimate_grows_with_the_range_and_the_frame() -> None:
    plugin = VisualizerPlugin()
    minute = 60 * 44_100 * 4
    short, long = (plugin.estimate(None, [Visualize(seconds=seconds)], minute) for seconds in (1, None))
    assert 50 * short.work_s < long.work_s < 70 * short.work_s
    assert short.output_bytes == 1280 * 720 * 4
    assert plugin.estimate(None, [Visualize(64, 64)], minute).peak_bytes < long.peak_bytes


def test_a_server_does_not_import_numpy() -> None:
    code = "import offloop_visualizer, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
