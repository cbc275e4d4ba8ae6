"""Progress, cancellation and memory of the libvips images of one task.

libvips computes an image when its pixels are requested. A task requests pixels more than once: for each copy to memory, and
when the result is written. libvips forgets a kill request that arrives between two computations, so `stop` may be called
repeatedly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

from offloop.processor import Task

__all__ = ["Evaluation"]

KeptT = TypeVar("KeptT")


class Evaluation:
    """The libvips images that are computed for one task."""

    def __init__(
        self,
        task: Task,
        load_attachment: Callable[[int, Any], Any] | None = None,
        *,
        reports_progress: bool = True,
    ) -> None:
        """Args:
        task: the task.
        load_attachment: returns the picture of a further source by its index, for a step on a `Picture`; None: there is none.
        reports_progress: whether `report_progress` does what it says.
        """
        self._task = task
        self._load_attachment = load_attachment
        self._reports_progress = reports_progress
        self._images: list[Any] = []
        self._kept: list[Any] = []
        self._on_release: list[Callable[[], None]] = []
        self.reads_all_rows = True
        """Whether the steps need every row of the source, so that its decoder looks at all of its bytes."""
        self.messages: list[str] = []
        """Lines that decoders added to the error buffer of libvips without failing."""
        self.scan_reader: Any = None
        """What the decoder of a JPEG with one scan reads from, if its scan is checked for data that is left over."""

    def load_attachment(self, index: int, picture: Any) -> Any:
        """Returns the picture of a further source of the task: in memory, upright, with the depth of `picture`."""
        assert self._load_attachment is not None, "a preview has no step with an attachment"
        return self._load_attachment(index, picture)

    def stop(self) -> None:
        """Makes every watched image fail at the next pixels that it computes. May be called from any thread."""
        for image in tuple(self._images):
            image.set_kill(True)

    def watch(self, image: Any) -> Any:
        """Adds an image to those that `stop` stops, and returns it."""
        self._images.append(image)
        return image

    def keep_alive(self, used: KeptT) -> KeptT:
        """Keeps memory or a source that images point to alive until `release`, and returns it."""
        self._kept.append(used)
        return used

    def on_release(self, function: Callable[[], None]) -> None:
        """Calls a function at the next `release`."""
        self._on_release.append(function)

    def copy_to_memory(self, image: Any) -> Any:
        """Computes the whole image into memory, so that its pixels can be read in any order.

        Raises:
            TaskCancelled: the task was cancelled.
            pyvips.Error: the pixels could not be computed.
        """
        self._task.checkpoint()
        copied = self.watch(image).copy_memory()
        self.take_messages()
        copied = copied.copy()
        copied.remove("vips-sequential")  # libvips copies this field of the loader, but it is not true of the copy
        return self.watch(copied)

    def take_messages(self) -> None:
        """Moves the lines of the error buffer of libvips to `messages`. The next operation of libvips may drop them."""
        libvips = cast("Any", sys.modules["pyvips"])  # the server imports this module without pyvips
        text: bytes = libvips.ffi.string(libvips.vips_lib.vips_error_buffer())
        libvips.vips_lib.vips_error_clear()
        self.messages += text.decode(errors="replace").splitlines()

    def report_progress(self, image: Any) -> Any:
        """Adds an image as `watch` does, and reports the task's progress while the image is computed, if asked for."""
        if not self._reports_progress:
            return self.watch(image)
        task, last_percent = self._task, -1  # not `self`, because a reference cycle would free the image late

        def on_eval(_image: Any, progress: Any) -> None:
            nonlocal last_percent
            if progress.percent > last_percent:
                last_percent = progress.percent
                task.progress(min(last_percent / 100, 1.0))

        image.set_progress(True)
        image.signal_connect("eval", on_eval)
        return self.watch(image)

    def release(self) -> None:
        """Drops every image, because the images point into memory that does not belong to the worker after the task."""
        self._images.clear()
        self._kept.clear()
        for function in self._on_release:
            function()
        self._on_release.clear()
