"""Beats are where the clicks of a click track are."""

from __future__ import annotations

import numpy as np
import pytest

from offloop_visualizer.beats import Beats, find_beats
from offloop_visualizer.wav import Wav

from .music import RATE, Samples, click_times, click_track, wav_file

MOST_S = 0.02  # distance of a beat from its click


def beats_of(samples: Samples, rate: int = RATE) -> Beats:
    wav = Wav.parse(memoryview(wav_file(samples, rate=rate)))
    return find_beats(wav, 0, wav.count, lambda: None)


def errors(beats: Beats, times_s: Samples) -> Samples:
    """Returns the distance from each click to the closest beat, in seconds."""
    return np.abs(beats.times_s[:, None] - times_s).min(axis=0)


@pytest.mark.parametrize("noise", [0, 0.05, 0.1])
@pytest.mark.parametrize("bpm", [62, 72, 97.3, 120, 128, 140, 160, 174])
def test_the_beats_are_at_the_clicks(bpm: float, noise: float) -> None:
    times_s = click_times(bpm, 15)
    beats = beats_of(click_track(times_s, 15, noise=noise))
    assert beats.tempo_bpm == pytest.approx(bpm, rel=0.01)
    assert errors(beats, times_s).max() < MOST_S
    assert abs(len(beats.times_s) - len(times_s)) <= 1


@pytest.mark.parametrize(("rate", "noise"), [(8000, 0), (44_100, 0.1), (48_000, 0.1), (96_000, 0)])
def test_the_rate_of_the_file_does_not_matter(rate: int, noise: float) -> None:
    times_s = click_times(160, 15)
    beats = beats_of(click_track(times_s, 15, noise=noise, rate=rate), rate)
    assert beats.tempo_bpm == pytest.approx(160, rel=0.01)
    assert errors(beats, times_s).max() < MOST_S


def test_the_tempo_may_change() -> None:
    times_s = np.concatenate([click_times(100, 15), 15 + click_times(140, 15)])
    beats = beats_of(click_track(times_s, 30))
    settled = (times_s < 12) | (times_s > 18)
    assert errors(beats, times_s)[settled].max() < MOST_S


def test_quiet_music_has_the_same_beats() -> None:
    times_s = click_times(120, 20)
    beats = beats_of(click_track(times_s, 20) * np.geomspace(0.01, 1, 20 * RATE))
    assert beats.tempo_bpm == pytest.approx(120, rel=0.01)
    assert errors(beats, times_s).max() < MOST_S


def test_there_are_no_beats_before_the_music_and_after_it() -> None:
    samples = click_track(click_times(120, 10), 10)
    beats = beats_of(np.concatenate([np.zeros(5 * RATE), samples, np.zeros(5 * RATE)]))
    assert 5.2 < beats.times_s[0] < 5.3
    assert 14.5 < beats.times_s[-1] < 15


@pytest.mark.parametrize("seconds", [0.001, 0.5, 1.9, 3.0, 20.0])
def test_silence_has_no_beats(seconds: float) -> None:
    beats = beats_of(np.zeros(max(round(seconds * RATE), 1)))
    assert (beats.times_s.size, beats.tempo_bpm) == (0, 0)


@pytest.mark.parametrize("seconds", [0.3, 2.1, 3.0])
def test_short_music_is_no_error(seconds: float) -> None:
    beats = beats_of(np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE)))
    assert (np.diff(beats.times_s) > 0.1).all()


def test_a_range_has_the_times_of_the_file() -> None:
    times_s = click_times(120, 20)
    wav = Wav.parse(memoryview(wav_file(click_track(times_s, 20))))
    beats = find_beats(wav, 8 * RATE, 6 * RATE, lambda: None)
    inside = times_s[(times_s > 8.1) & (times_s < 13.9)]
    assert errors(beats, inside).max() < MOST_S
    assert 8 < beats.times_s[0] < beats.times_s[-1] < 14


def test_the_last_beat_is_known_at_each_time() -> None:
    beats = Beats(np.array([1.0, 2.0]), 60.0)
    assert [beats.count_until(time_s) for time_s in (0.9, 1.0, 1.5, 3.0)] == [0, 1, 1, 2]
    assert [beats.since_last(time_s) for time_s in (0.9, 1.0, 1.5, 3.0)] == [float("inf"), 0, 0.5, 1]


def test_a_search_can_be_stopped() -> None:
    wav = Wav.parse(memoryview(wav_file(click_track(click_times(120, 5), 5))))

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        find_beats(wav, 0, wav.count, stop)
