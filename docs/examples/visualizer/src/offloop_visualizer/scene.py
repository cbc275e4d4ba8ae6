"""`Scene`: draws the music at a time into the memory of a frame."""

from __future__ import annotations

import numpy as np

from .beats import Beats
from .layers import Backdrop, Bars, Layer, Moment, ProgressLine, Sparks, Waveform
from .layers.layer import Geometry
from .palette import PALETTES
from .plugin import Visualize
from .spectrum import Spectrum
from .wav import Floats, Wav

__all__ = ["Scene"]

_PULSE_FALL_S = 0.16  # time in which a pulse falls to a third
_WAVEFORM_S = 0.04  # music that the waveform shows
_SMOOTHING = np.hanning(27) / np.hanning(27).sum()  # of the waveform, over columns of a frame 720 pixels high
_LAST_BEATS = 6  # beats whose rings and sparks may still be seen


class Scene:
    """Draws frames in the order of their times."""

    def __init__(self, wav: Wav, beats: Beats, operation: Visualize) -> None:
        self._wav = wav
        self.beats = beats
        self.size = operation.height, operation.width  # of a frame in pixels
        self._spectrum = Spectrum(wav)
        geometry, colours = Geometry(operation.width, operation.height), PALETTES[operation.palette]
        self._layers: tuple[Layer, ...] = (
            Backdrop(geometry, colours),
            Waveform(geometry, colours),
            Sparks(geometry, colours),
            Bars(geometry, colours),
            ProgressLine(geometry, colours),
        )

    def draw(self, memory: memoryview, time_s: float, progress: float) -> Moment:
        """Draw a frame and return what it shows.

        Args:
            memory: height x width x 4 bytes, which are all written: red, green, blue and alpha (255) of each pixel.
            time_s: seconds from the start of the file.
            progress: part of the range that is over.
        """
        moment = self._moment(time_s, progress)
        pixels = np.frombuffer(memory, "<u4").reshape(self.size)
        for layer in self._layers:
            layer.draw(pixels, moment)
        return moment

    def _moment(self, time_s: float, progress: float) -> Moment:
        beat = self.beats.count_until(time_s)
        return Moment(
            time_s=time_s,
            progress=progress,
            levels=self._spectrum.advance(time_s),
            waveform=self._waveform(time_s),
            beats_s=self.beats.times_s[max(beat - _LAST_BEATS, 0) : beat],
            beat=beat,
            pulse=float(np.exp(-self.beats.since_last(time_s) / _PULSE_FALL_S)),
        )

    def _waveform(self, time_s: float) -> Floats:
        """Returns a sample for each column. It starts where the wave crosses zero upwards, so that it does not jitter."""
        rate, width = self._wav.rate, self.size[1]
        count = max(round(_WAVEFORM_S * rate), 2)
        samples = self._wav.mono(round(time_s * rate) - count, 2 * count)
        crossings = np.flatnonzero((samples[:count] < 0) & (samples[1 : count + 1] >= 0))
        first = int(crossings[-1]) if crossings.size else count // 2
        line: Floats = np.interp(np.linspace(first, first + count - 1, width), np.arange(2 * count), samples)
        return np.convolve(line, _SMOOTHING, "same").astype(np.float32)
