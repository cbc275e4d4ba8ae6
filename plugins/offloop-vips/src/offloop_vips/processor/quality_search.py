"""Search for the quality of a file: the highest one that is short enough, or the lowest one that is similar enough.

The picture is computed once, into memory, and encoded about seven times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import msgspec
import pyvips

from offloop.errors import TaskFailed
from offloop.processor import Task

from ..headers.formats import FORMATS
from ..operations import Avif, Encoder, Jpeg, Webp
from ..operations.outputs.quality_goal import ssim_of
from ..picture import Image
from .similarity import ssim

__all__ = ["LossyEncoder", "encode_in_memory", "encode_to_goal", "has_goal"]

LossyEncoder: TypeAlias = Jpeg | Webp | Avif

_STEPS = 8  # expected number of encoded files, for the progress


def has_goal(encoder: Encoder) -> bool:
    """Whether the quality of the encoder has to be searched."""
    return isinstance(encoder, LossyEncoder) and (encoder.max_bytes is not None or encoder.target is not None)


def encode_in_memory(image: Image, encoder: Encoder, keep: int) -> bytes:
    """Returns the file of an encoder, in private memory, with metadata by the flags of libvips."""
    target = cast("Any", pyvips).Target.new_to_memory()
    encoder.save(image, target, keep)
    return target.get("blob")


def encode_to_goal(image: Image, encoder: LossyEncoder, task: Task, keep: int = 0) -> tuple[bytes, dict[str, Any]]:
    """Returns the file whose quality meets the goal of the encoder, and the fields that tell its quality.

    Args:
        image: the picture, in memory.
        encoder: an encoder for which `has_goal` is true.
        task: the task, whose progress is reported.
        keep: metadata by the flags of libvips.

    Raises:
        TaskFailed: "output_too_large" if the lowest quality has more bytes than `max_bytes`.
        TaskCancelled: the task was cancelled.
    """
    search = _Search(image, encoder, task, keep)
    quality, found = encoder.quality, dict[str, Any]()
    if encoder.target is not None:
        least = ssim_of(encoder.target)
        quality = _lowest(1, 100, lambda tried: search.similarity(tried) >= least)
    if encoder.max_bytes is not None:
        quality = search.highest_within(encoder.max_bytes, quality)
    if encoder.target is not None:
        found["ssim"] = round(search.similarity(quality), 4)
    return search.file(quality), {"quality": quality, **found}


class _Search:
    """The files of one picture. Only the last one is kept, because each may be large."""

    def __init__(self, image: Image, encoder: LossyEncoder, task: Task, keep: int) -> None:
        self._image = image
        self._encoder = msgspec.structs.replace(encoder, quality=type(encoder)().quality, max_bytes=None, target=None)
        self._task = task
        self._keep = keep
        self._last: tuple[int, bytes] = (0, b"")
        self._similarities: dict[int, float] = {}
        self._tried = 0

    def file(self, quality: int) -> bytes:
        if self._last[0] != quality:
            self._task.checkpoint()
            encoder = msgspec.structs.replace(self._encoder, quality=quality)
            self._last = quality, encode_in_memory(self._image, encoder, self._keep)
            self._tried += 1
            self._task.progress(min(self._tried / _STEPS, 0.99))
        return self._last[1]

    def similarity(self, quality: int) -> float:
        if quality not in self._similarities:
            loader = getattr(pyvips.Image, FORMATS[self._encoder.format].loader)
            decoded = loader(pyvips.Source.new_from_memory(self.file(quality)))
            self._similarities[quality] = ssim(self._image, decoded)
        return self._similarities[quality]

    def highest_within(self, max_bytes: int, quality: int) -> int:
        if len(self.file(quality)) <= max_bytes:
            return quality
        too_large = _lowest(1, quality, lambda tried: len(self.file(tried)) > max_bytes)
        if too_large == 1:
            nbytes = f"{len(self.file(1)):,}"
            message = f"{nbytes} bytes at quality 1, the limit is {max_bytes:,} (max_bytes); resize the picture to less pixels"
            raise TaskFailed("output_too_large", message)
        return too_large - 1


def _lowest(low: int, high: int, is_enough: Callable[[int], bool]) -> int:
    """Returns the lowest number from `low` to `high` that is enough, if each higher one is, too; `high` if none is."""
    while low < high:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle + 1
    return low
