"""Make a video of a WAV file: python make_video.py song.wav video.mp4 [--width 1280 --height 720 --fps 60 --seconds 20]

A worker draws the frames. This process encodes each with PyAV, in a thread, from the memory that the worker has written.
"""

import argparse
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import anyio
import av
from anyio import to_thread
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from offloop import Frame, Pool
from offloop_visualizer import Visualize


class VideoFile:
    """A video file with the pictures of a stream and the sound of a WAV file."""

    def __init__(self, container: Any, sound: Any, operation: Visualize) -> None:
        rate = Fraction(operation.fps).limit_denominator(1001)
        self._tick = 1 / rate
        self._container, self._sound, self._operation = container, sound, operation
        self._pictures: Any = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "20"})
        self._pictures.width, self._pictures.height, self._pictures.pix_fmt = operation.width, operation.height, "yuv420p"
        self._samples: Any = container.add_stream("aac", rate=sound.streams.audio[0].rate, layout="stereo")

    def add(self, frame: Frame) -> None:
        """Encode a frame. Its memory is copied once, by the conversion of its colours."""
        picture: Any = av.VideoFrame.from_ndarray(frame.array(), format="rgba")
        picture.pts, picture.time_base = frame.info.tick, self._tick
        self._container.mux(self._pictures.encode(picture))

    def finish(self) -> None:
        """Encode the pictures that the encoder still has, and the sound."""
        self._container.mux(self._pictures.encode(None))
        for samples in self._sound_of_range():
            self._container.mux(self._samples.encode(samples))
        self._container.mux(self._samples.encode(None))

    def _sound_of_range(self) -> Iterator[Any]:
        start_s, seconds = self._operation.start_s, self._operation.seconds
        for samples in self._sound.decode(audio=0):
            if samples.time < start_s:
                continue
            if seconds is not None and samples.time >= start_s + seconds:
                return
            samples.pts = round((samples.time - start_s) * samples.sample_rate)
            samples.time_base = Fraction(1, samples.sample_rate)
            yield samples


@contextmanager
def open_video(destination: Path, source: Path, operation: Visualize) -> Generator[VideoFile]:
    container: Any
    sound: Any
    with av.open(str(source)) as sound, av.open(str(destination), "w") as container:
        video = VideoFile(container, sound, operation)
        yield video
        video.finish()


async def make_video(source: Path, destination: Path, operation: Visualize) -> int:
    """Draw and encode. Returns the number of frames."""
    count = 0
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} frames")
    async with Pool(1, plugins=["visualizer"]) as pool:
        with Progress(*columns, TextColumn("{task.fields[beat]} beats"), TimeRemainingColumn()) as progress:
            shown = progress.add_task(destination.name, total=None, beat=0)
            async with pool.stream(source, [operation]) as frames:
                with open_video(destination, source, operation) as video:
                    async for frame in frames:
                        await to_thread.run_sync(video.add, frame)
                        count = frame.index + 1
                        progress.update(shown, completed=count, total=frame.info.ticks, beat=frame.info.beat)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("destination", type=Path)
    for name, type_ in {"width": int, "height": int, "fps": float, "start_s": float, "seconds": float, "palette": str}.items():
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, type=type_, default=argparse.SUPPRESS)
    options = vars(parser.parse_args())
    source, destination = options.pop("source"), options.pop("destination")
    count = anyio.run(make_video, source, destination, Visualize(**options))
    print(f"{destination}: {count} frames, {destination.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
