"""`Ticks`: the times of the frames, in the music and on the clock."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from offloop.errors import TaskFailed

from .plugin import Visualize
from .wav import Wav

__all__ = ["Ticks"]


@dataclass(frozen=True, slots=True)
class Ticks:
    """Times of the frames."""

    start_s: float
    fps: float
    count: int
    first_sample: int
    samples: int  # sample frames in the range

    @classmethod
    def of(cls, wav: Wav, operation: Visualize) -> Ticks:
        """Returns the ticks of the range that the operation and the file have in common.

        Raises:
            TaskFailed: there is none; with the code "no_audio".
        """
        first = round(operation.start_s * wav.rate)
        samples = wav.count - first
        if operation.seconds is not None:
            samples = min(samples, round(operation.seconds * wav.rate))
        if samples <= 0:
            length_s = wav.count / wav.rate
            raise TaskFailed("no_audio", f"start_s={operation.start_s:g}: the music ends after {length_s:.3f} s")
        return cls(operation.start_s, operation.fps, math.ceil(samples / wav.rate * operation.fps), first, samples)

    def time_s(self, tick: int) -> float:
        """Returns the time of a tick in seconds from the start of the file."""
        return self.start_s + tick / self.fps

    def paced(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> Iterator[int]:
        """Yields each tick at its time on the clock, from now on. Skips those that are over."""
        begun = clock()
        tick = 0
        while tick < self.count:
            sleep(max(begun + tick / self.fps - clock(), 0))
            yield tick
            tick = max(tick + 1, int((clock() - begun) * self.fps))
