"""A video file with the frames of a stream and the sound of a WAV file. It needs PyAV, the extra "video"."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, BinaryIO

import av

from offloop import Frame

from .plugin import Visualize

__all__ = ["VideoFile", "open_video"]


class VideoFile:
    """Encodes frames as H.264, and the sound of the same range as AAC. Its methods take CPU time: call them in a thread."""

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
def open_video(
    destination: str | BinaryIO, source: str | BinaryIO, operation: Visualize, *, container: str | None = None
) -> Generator[VideoFile]:
    """Open a video file for writing. Leaving the block closes the file; `VideoFile.finish` completes it before.

    Args:
        destination: a path, or a seekable file.
        source: a WAV file, as a path or a file.
        operation: the operation that makes the frames.
        container: format of the file, such as "mp4"; None: by the suffix of its path.
    """
    written: Any
    sound: Any
    with av.open(source) as sound, av.open(destination, "w", format=container) as written:
        yield VideoFile(written, sound, operation)
