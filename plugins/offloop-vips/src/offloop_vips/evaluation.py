"""The images that are computed for one task: watched, reported on, and stopped together.

libvips computes when pixels are asked for, and a task asks more than once: each time that pixels are gathered in memory, and
when the result is written. It forgets a request to stop that comes while nothing is computed, so `stop` may be called
again and again.
"""

from __future__ import annotations

from typing import Any

from offloop.processor import Task

__all__ = ["Evaluation"]


class Evaluation:
    """What libvips is asked to compute for one task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._images: list[Any] = []
        self._memory: list[memoryview] = []

    def stop(self) -> None:
        """Have every image that is under way fail at its next pixels. May be called from any thread."""
        for image in tuple(self._images):
            image.set_kill(True)

    def watch(self, image: Any) -> Any:
        """Have `stop` reach this image, and return it."""
        self._images.append(image)
        return image

    def keep(self, memory: memoryview) -> memoryview:
        """Hold on to memory that images look at until they are released, and return it."""
        self._memory.append(memory)
        return memory

    def in_memory(self, image: Any) -> Any:
        """Compute all of an image now, so that its pixels can be read in any order.

        Raises:
            TaskCancelled: the task is to stop.
            pyvips.Error: its pixels could not be computed.
        """
        self._task.checkpoint()
        gathered = self.watch(image).copy_memory().copy()
        gathered.remove("vips-sequential")  # it describes the loader, and is copied along although it is no longer true
        return self.watch(gathered)

    def report(self, image: Any) -> Any:
        """Watch an image and note the task's progress while it is computed."""
        task, last = self._task, -1  # not self: an image that holds what holds it is freed late

        def note(_image: Any, progress: Any) -> None:
            nonlocal last
            if progress.percent > last:
                last = progress.percent
                task.progress(min(last / 100, 1.0))

        image.set_progress(True)
        image.signal_connect("eval", note)
        return self.watch(image)

    def release(self) -> None:
        """Let go of every image: they look at memory that is not ours after the task."""
        self._images.clear()
        self._memory.clear()
