"""The light half of the plugin, for the server: the operation, its checks and its estimate. It does not import numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta

from offloop.errors import InvalidTask
from offloop.operation import Estimate, Header, Operation, Plugin

__all__ = ["Palette", "Visualize", "VisualizerPlugin"]

Palette: TypeAlias = Literal["aurora", "ember", "ocean"]

Side: TypeAlias = Annotated[int, Meta(ge=64, le=4096)]

_CD_BYTES_PER_SECOND = 44_100 * 2 * 2
_ANALYSIS_S = 0.004  # CPU seconds for one second of music
_FRAME_S = 9e-9  # CPU seconds for one pixel of a frame
_PEAK_BYTES_PER_PIXEL = 44  # maps of the layers while they are computed
_PEAK_BYTES = 16_000_000  # analysis in blocks, and tables that do not grow with the frame
_ONSET_BYTES_PER_SECOND = 4_000  # onset strength at 100 Hz, and the beat tracker's arrays of the same length


class Visualize(Operation, frozen=True):
    """Draw the music of a WAV file: one RGBA frame per tick, of shape (height, width, 4), for `Pool.stream`.

    The radial bars are the spectrum around the time of the frame, the line is the waveform, and rings, sparks and brightness
    follow the beats of the whole range. `frame.info` has time_s, tick, ticks, beat (number of beats so far), pulse (1 on a
    beat, then falling), tempo_bpm (0 without beats), width and height.

    `Pool.run` with this operation returns the first frame only, for a poster.
    """

    width: Side = 1280
    """Width of a frame in pixels."""

    height: Side = 720
    """Height of a frame in pixels."""

    fps: Annotated[float, Meta(ge=1, le=240)] = 60.0
    """Ticks per second of music."""

    start_s: Annotated[float, Meta(ge=0)] = 0.0
    """Start of the range in seconds."""

    seconds: Annotated[float, Meta(gt=0)] | None = None
    """Length of the range in seconds. None: until the end of the music."""

    palette: Palette = "aurora"
    """Colours of the frames."""

    pace: Literal["free", "live"] = "free"
    """"free": every tick, as fast as the reader takes them. "live": each tick at its time on the clock, and a tick that is
    already over is skipped."""


class VisualizerPlugin(Plugin):
    """Draws music. Its processor needs numpy only."""

    name: ClassVar[str] = "visualizer"
    operations: ClassVar[tuple[type[Operation], ...]] = (Visualize,)
    processor: ClassVar[str] = "offloop_visualizer.processor:VisualizerProcessor"
    quick: ClassVar[bool] = True  # an estimate is a few multiplications, and there is no probe

    def check(self, operations: Sequence[Operation]) -> None:
        """Refuses a second `Visualize`.

        Raises:
            InvalidTask: there is more than one operation, because the result of the first one is no music.
        """
        if len(operations) > 1:
            raise InvalidTask(f"{len(operations)} x Visualize: use it once in a pipeline, because its frames are no music")

    def estimate(self, header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate:  # noqa: ARG002
        """Estimates from the length of the file, as if it were 16-bit stereo at 44.1 kHz."""
        (operation,) = operations
        assert isinstance(operation, Visualize)
        seconds = nbytes / _CD_BYTES_PER_SECOND
        if operation.seconds is not None:
            seconds = min(seconds, operation.seconds)
        pixels = operation.width * operation.height
        return Estimate(
            peak_bytes=int(_PEAK_BYTES + pixels * _PEAK_BYTES_PER_PIXEL + seconds * _ONSET_BYTES_PER_SECOND),
            work_s=seconds * (_ANALYSIS_S + operation.fps * pixels * _FRAME_S),
            output_bytes=pixels * 4,
        )
