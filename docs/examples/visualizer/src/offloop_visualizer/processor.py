"""The heavy half of the plugin: the loop over the ticks, in a worker."""

from __future__ import annotations

from collections.abc import Sequence

from offloop.errors import InvalidTask
from offloop.operation import Operation
from offloop.processor import Encoded, Payload, Raster, Task, WorkerContext

from .beats import find_beats
from .plugin import Visualize
from .scene import Scene
from .ticks import Ticks
from .wav import Wav

__all__ = ["VisualizerProcessor"]


class VisualizerProcessor:
    """Draws the frames of `Visualize` into result memory, and hands each over when it is ready."""

    def open(self, worker: WorkerContext) -> None:
        """Nothing to load beside numpy, which the import of this module has loaded."""

    def run(self, payload: Payload, operations: Sequence[Operation], task: Task) -> Payload | None:
        """Emit a frame for each tick. Returns None, or the first frame if the caller receives only one result.

        Raises:
            TaskFailed: the source is no WAV file that can be read, or the range is behind its end ("no_audio").
            InvalidTask: the source is samples.
        """
        (operation,) = operations
        assert isinstance(operation, Visualize)
        if not isinstance(payload, Encoded):
            raise InvalidTask("Visualize takes a WAV file, but the source is samples without a rate; give it the file")
        wav = Wav.parse(memoryview(payload.data))
        ticks = Ticks.of(wav, operation)
        beats = find_beats(wav, ticks.first_sample, ticks.samples, task.checkpoint)
        scene = Scene(wav, beats, operation)
        for tick in ticks.paced() if operation.pace == "live" else range(ticks.count):
            frame = _frame(scene, ticks, tick, task)
            if not task.emit(frame):
                return frame
            task.progress((tick + 1) / ticks.count)
        return None


def _frame(scene: Scene, ticks: Ticks, tick: int, task: Task) -> Raster:
    """Draw a frame into result memory."""
    height, width = scene.size
    memory = task.allocate(height * width * 4)
    moment = scene.draw(memory, ticks.time_s(tick), tick / ticks.count)
    moment_info = {
        "time_s": moment.time_s,
        "tick": tick,
        "ticks": ticks.count,
        "beat": moment.beat,
        "pulse": moment.pulse,
        "tempo_bpm": scene.beats.tempo_bpm,
    }
    task.add_info(moment_info)  # so that an encoder that follows keeps it
    return Raster(memory, (height, width, 4), "|u1", {"width": width, "height": height})
