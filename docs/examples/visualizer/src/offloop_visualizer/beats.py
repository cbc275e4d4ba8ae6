"""Beats of a piece of music: onset strength, then the tempo over time, then the beats that fit both.

The method is the one of Ellis (Beat Tracking by Dynamic Programming, 2007), with a tempo that may change slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt
from numpy import fft  # here, because numpy imports its parts late and the sandbox refuses late imports
from numpy.lib.stride_tricks import sliding_window_view

from .wav import Floats, Wav

__all__ = ["Beats", "find_beats"]

_ONSET_HZ = 100  # values of onset strength per second
_WINDOW_S = 0.02  # shortest window of a spectrum, in seconds
_BANDS = 24  # bands whose rises are added up
_LOWEST_HZ, _HIGHEST_HZ = 30.0, 10_000.0
_GAIN = 1_000.0  # before the logarithm, so that quiet music counts as loud music does
_RISE = 2  # values over which a rise is measured, because a sound between two values would count half
_BLOCK = 512  # windows that are computed at a time: about 4 MB

_SLOWEST_BPM, _FASTEST_BPM, _STEPS = 56.0, 208.0, 160
_USUAL_BPM, _OCTAVES = 130.0, 1.1  # centre and standard deviation of the expected tempo, because half the tempo fits as well
_TEMPO_WINDOW_S, _TEMPO_HOP_S = 8.0, 2.0
_TEMPO_CHANGE_COST = 4.0  # for each octave between two windows
_MULTIPLES = (1.0, 0.7, 0.5, 0.3)  # weights of one to four periods
_SMOOTHING = np.array((1, 2, 3, 2, 1)) / 9
_TIGHTNESS = 100.0  # cost of an interval that differs from the period
_AUDIBLE = 0.3  # onset strength of a beat at either end of the music, in standard deviations


@dataclass(frozen=True, slots=True)
class Beats:
    """Beats of a range of music."""

    times_s: npt.NDArray[np.float64]  # ascending, in seconds from the start of the file
    tempo_bpm: float  # beats per minute, from the median interval; 0.0: there are no beats

    def count_until(self, time_s: float) -> int:
        """Returns the number of beats up to a time."""
        return int(np.searchsorted(self.times_s, time_s, side="right"))

    def since_last(self, time_s: float) -> float:
        """Returns the seconds since the last beat; infinity before the first."""
        count = self.count_until(time_s)
        return time_s - float(self.times_s[count - 1]) if count else float("inf")


def find_beats(wav: Wav, first: int, count: int, checkpoint: Callable[[], None]) -> Beats:
    """Find the beats of `count` sample frames from `first` on. Its memory grows by 4 KB for each second.

    Args:
        checkpoint: called a few times for each minute of music; what it raises ends the search.
    """
    hop = max(round(wav.rate / _ONSET_HZ), 1)
    strength = _onset_strength(wav, first, count, hop, checkpoint)
    rate = wav.rate / hop
    if strength.size < 2 * rate or not strength.any():  # shorter than two of the slowest beats, or silent
        return Beats(np.empty(0), 0.0)
    frames = _track(strength, _periods(strength, rate), checkpoint)
    frames = _audible(frames, strength)
    times = (frames * hop + first) / wav.rate
    return Beats(times, _tempo(times))


def _window_size(rate: int) -> int:
    """Returns the length of a window in samples: a power of two."""
    return 1 << int(np.ceil(np.log2(rate * _WINDOW_S)))


def _onset_strength(wav: Wav, first: int, count: int, hop: int, checkpoint: Callable[[], None]) -> Floats:
    """Returns how much louder the bands have become, 100 times a second, in standard deviations above the surroundings."""
    size = _window_size(wav.rate)
    window = (np.hanning(size) * (2 / size)).astype(np.float32)
    bands = _band_matrix(size, wav.rate)
    rises: list[Floats] = []
    before: Floats | None = None
    total = max(count // hop, 1)
    for start in range(0, total, _BLOCK):
        checkpoint()
        windows = min(_BLOCK, total - start)
        samples = wav.mono(first + start * hop - size // 2, (windows - 1) * hop + size)
        spectrum = np.abs(fft.rfft(sliding_window_view(samples, size)[::hop] * window, axis=1)).astype(np.float32)
        levels = np.log1p(_GAIN * (spectrum @ bands))
        levels = np.vstack([np.repeat(levels[:1], _RISE, axis=0) if before is None else before, levels])
        rises.append(np.maximum(levels[_RISE:] - levels[:-_RISE], 0).mean(axis=1))
        before = levels[-_RISE:]
    return _normalized(np.concatenate(rises))


def _band_matrix(size: int, rate: int) -> Floats:
    """Returns the weights that add the bins of a spectrum up to bands, of shape (bins, bands), equally wide in octaves."""
    highest = min(_HIGHEST_HZ, 0.45 * rate)
    edges = np.geomspace(_LOWEST_HZ, highest, _BANDS + 2) * size / rate
    bins = np.arange(size // 2 + 1)[:, None]
    width = np.maximum(np.diff(edges), 1.0)  # at least a bin, because the lowest bands are narrower
    rising, falling = (bins - edges[:-2]) / width[:-1], (edges[2:] - bins) / width[1:]
    return np.maximum(np.minimum(rising, falling), 0).astype(np.float32)


def _normalized(strength: Floats) -> Floats:
    """Returns onset strength without what is usual within a second, divided by its standard deviation."""
    width = _ONSET_HZ
    padded = np.pad(np.cumsum(strength, dtype=np.float64), (1, 0))
    low = np.maximum(np.arange(strength.size) - width // 2, 0)
    high = np.minimum(low + width, strength.size)
    local = (padded[high] - padded[low]) / (high - low)
    above = np.maximum(strength - local, 0)
    deviation = float(above.std())
    return (above / deviation if deviation > 1e-6 else np.zeros_like(above)).astype(np.float32)  # rounding


def _periods(strength: Floats, rate: float) -> Floats:
    """Returns the time between two beats at each value of onset strength, in values."""
    size = min(round(_TEMPO_WINDOW_S * rate), strength.size)
    hop = round(_TEMPO_HOP_S * rate)
    smooth = np.convolve(strength, _SMOOTHING, "same")  # because a period may be any fraction of a value
    windows = sliding_window_view(smooth, size)[::hop]
    tempos = np.geomspace(_SLOWEST_BPM, _FASTEST_BPM, _STEPS)
    scores = np.vstack([_tempo_scores(window, 60 * rate / tempos) for window in windows])
    scores *= np.exp(-0.5 * (np.log2(tempos / _USUAL_BPM) / _OCTAVES) ** 2)
    chosen = _smoothest(scores, np.log2(tempos))
    centres = np.arange(len(windows)) * hop + size / 2
    return np.interp(np.arange(strength.size), centres, 60 * rate / tempos[chosen]).astype(np.float32)


def _tempo_scores(window: npt.NDArray[np.float64], periods: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns how well the music repeats itself after one to four of each period."""
    spectrum = fft.rfft(window - window.mean(), 2 * window.size)
    repeats = fft.irfft(np.abs(spectrum) ** 2)[: window.size]
    repeats /= np.arange(window.size, 0, -1)  # long distances have fewer pairs
    repeats /= max(float(repeats[0]), 1e-9)
    lags = np.arange(window.size // 4 * 3)
    scores = [weight * np.interp(times * periods, lags, repeats[: lags.size]) for times, weight in enumerate(_MULTIPLES, 1)]
    return np.sum(scores, axis=0) / sum(_MULTIPLES)


def _smoothest(scores: npt.NDArray[np.float64], octaves: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Returns the index of a tempo for each window: the path with the best scores and the fewest changes."""
    change = _TEMPO_CHANGE_COST * np.abs(octaves[:, None] - octaves[None, :])
    best, origins = scores[0], np.zeros(scores.shape, np.intp)
    for number in range(1, len(scores)):
        reached = best[None, :] - change
        origins[number] = reached.argmax(axis=1)
        best = scores[number] + reached.max(axis=1)
    path = np.zeros(len(scores), np.intp)
    path[-1] = best.argmax()
    for number in range(len(scores) - 1, 0, -1):
        path[number - 1] = origins[number, path[number]]
    return path


def _track(strength: Floats, periods: Floats, checkpoint: Callable[[], None]) -> npt.NDArray[np.intp]:
    """Returns the indices of the beats: the sequence with the strongest onsets at the most regular intervals."""
    score = strength.astype(np.float64)
    origins = np.full(strength.size, -1, np.intp)
    for index in range(strength.size):
        if index % 4096 == 0:
            checkpoint()
        period = float(periods[index])
        begin, end = max(index - int(2 * period), 0), index - int(period / 2)
        if end <= begin:
            continue
        distances = np.arange(index - begin, index - end, -1) / period
        reached = score[begin:end] - _TIGHTNESS * np.log(distances) ** 2
        best = int(reached.argmax())
        if reached[best] > 0:
            score[index] += reached[best]
            origins[index] = begin + best
    last = strength.size - int(periods[-1])
    beats = [last + int(score[last:].argmax())]
    while origins[beats[-1]] >= 0:
        beats.append(int(origins[beats[-1]]))
    return np.array(beats[::-1], np.intp)


def _audible(beats: npt.NDArray[np.intp], strength: Floats) -> npt.NDArray[np.intp]:
    """Returns the beats without those before the first sound and after the last one."""
    audible = np.flatnonzero(strength[beats] > _AUDIBLE)
    return beats[audible[0] : audible[-1] + 1] if audible.size else beats[:0]


def _tempo(times_s: npt.NDArray[np.float64]) -> float:
    """Returns beats per minute: the mean of the intervals that are close to the median."""
    if times_s.size < 2:  # an interval has two ends
        return 0.0
    intervals = np.diff(times_s)
    # median() of numpy imports a module at its first use, and the sandbox refuses late imports
    usual = intervals[np.abs(intervals / median(intervals.tolist()) - 1) < 0.2]  # a beat that was left out is not
    return float(60 / usual.mean())
