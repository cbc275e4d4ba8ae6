"""`Spectrum`: levels of the bands around a time, smoothed over time as an eye likes it."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy import fft  # here, because numpy imports its parts late and the sandbox refuses late imports

from .wav import Floats, Wav

Indices: TypeAlias = npt.NDArray[np.intp]

__all__ = ["BANDS", "Spectrum"]

BANDS = 60
_LOWEST_HZ, _HIGHEST_HZ = 40.0, 14_000.0
_WINDOW_S = 0.06
_RANGE_DB = 48.0  # from the top of the bars down to their feet
_TILT_DB = 3.0  # for each octave, because music has less power in high bands
_FALL_S = 0.16  # time in which a level falls to a third
_GAIN_FALL_S = 6.0  # the same of the loudest level, to which the others are compared
_SILENCE = 1e-4


class Spectrum:
    """Levels of 60 bands from low to high, each from 0 to 1. They rise at once and fall slowly."""

    def __init__(self, wav: Wav) -> None:
        self._wav = wav
        self._size = 1 << round(np.log2(wav.rate * _WINDOW_S))
        self._window = (np.hanning(self._size) * (4 / self._size)).astype(np.float32)
        highest = min(_HIGHEST_HZ, 0.45 * wav.rate)
        centres = np.geomspace(_LOWEST_HZ, highest, BANDS)
        self._bins: Floats = centres * self._size / wav.rate
        self._tilt = (10 ** (_TILT_DB * np.log2(centres / 1000) / 20)).astype(np.float32)
        self._ranges = self._bin_ranges()
        self._loudest = _SILENCE
        self._time_s: float | None = None  # time of the levels
        self.levels: Floats = np.zeros(BANDS, np.float32)

    def _bin_ranges(self) -> tuple[Indices, Indices]:
        """Returns the first bin of each band and the one after its last. Narrow bands have none."""
        edges = np.sqrt(self._bins[1:] * self._bins[:-1])
        ends = np.ceil(np.append(edges, self._bins[-1] + 1)).astype(np.intp)
        return np.append(np.floor(self._bins[:1]).astype(np.intp), ends[:-1]), ends

    def advance(self, time_s: float) -> Floats:
        """Returns the levels at a time, which is after that of the call before."""
        elapsed_s, self._time_s = time_s - (time_s if self._time_s is None else self._time_s), time_s
        first = round(time_s * self._wav.rate) - self._size // 2
        magnitudes = np.abs(fft.rfft(self._wav.mono(first, self._size) * self._window))
        bands = self._bands(magnitudes) * self._tilt
        self._loudest = max(self._loudest * float(np.exp(-elapsed_s / _GAIN_FALL_S)), float(bands.max()), _SILENCE)
        decibels = 20 * np.log10(np.maximum(bands / self._loudest, 1e-9))
        levels = np.clip(1 + decibels / _RANGE_DB, 0, 1)
        self.levels = np.maximum(levels, self.levels * np.exp(-elapsed_s / _FALL_S)).astype(np.float32)
        return self.levels

    def _bands(self, magnitudes: Floats) -> Floats:
        """Returns the largest magnitude of each band; between the bins for bands that are narrower than one."""
        bins: Floats = np.arange(magnitudes.size, dtype=np.float64)
        between = np.interp(self._bins, bins, magnitudes)
        largest = np.maximum.reduceat(magnitudes, self._ranges[0])
        return np.maximum(between, np.where(self._ranges[1] > self._ranges[0] + 1, largest, 0))
