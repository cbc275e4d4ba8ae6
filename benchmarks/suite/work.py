"""The functions that the pools call, at the top level of a module, where the workers of every pool find them."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from offloop import Encoded, function
from offloop.operation import Operation
from offloop.testing import InlineTask
from offloop_vips import Blur, Grayscale, Jpeg, Png, Resize, Rotate, Sharpen, Tint

__all__ = [
    "EDITS",
    "FAST",
    "PIPELINES",
    "PUBLISHED",
    "THUMBNAIL",
    "edit",
    "end_process",
    "hang",
    "picture",
    "same",
    "same_bytes",
    "same_bytes_of_pool",
    "same_of_pool",
    "same_view_of_pool",
    "wait",
]

EDITS: dict[str, list[Operation]] = {
    "resize": [Resize(2000, 1500), Png()],
    "blur": [Blur(3.0), Png()],
    "grayscale": [Grayscale(), Png()],
    "sharpen": [Sharpen(), Png()],
    "rotate": [Rotate(90), Png()],
    "tint": [Tint("#ff8040"), Png()],
}
"""The six operations of the article on Node's worker threads. Each writes a PNG, because its sources are PNGs."""

THUMBNAIL = "thumbnail"
PIPELINES = EDITS | {THUMBNAIL: [Resize(100, 75), Png()]}

FAST = {"PNG": "PNG, fast"}
PUBLISHED: dict[str, list[Operation]] = {
    "JPEG": [Resize(720, 588), Jpeg()],
    "PNG": [Resize(720, 540), Png()],
    FAST["PNG"]: [Resize(720, 540, fast=True), Png()],
}
"""The two tasks that sharp publishes. "Fast" is the PNG reduced in 8 bits, as sharp does; the default is float."""


class _Worker:
    slot = 0


@cache
def _processor() -> Any:
    from offloop_vips.processor import VipsProcessor

    processor = VipsProcessor()
    processor.open(_Worker())  # pyright: ignore[reportArgumentType]
    return processor


def edit(name: str, source: str, target: str) -> int:
    """Carry one operation out from file to file, with the calls of libvips that a worker of offloop makes.

    Returns:
        the bytes written
    """
    payload = _processor().run(Encoded(memoryview(Path(source).read_bytes())), PIPELINES[name], InlineTask())
    return Path(target).write_bytes(payload.data)


def picture(name: str, source: bytes) -> bytes:
    """Carry out one of the tasks that sharp publishes, with the calls of libvips that a worker of offloop makes."""
    return bytes(_processor().run(Encoded(memoryview(source)), PUBLISHED[name], InlineTask()).data)


def same(value: int) -> int:
    """Returns its argument."""
    return value


def same_bytes(value: bytes) -> bytes:
    """Returns its argument."""
    return value


def wait(seconds: float, value: int) -> int:
    """Returns the value after the seconds."""
    time.sleep(seconds)
    return value


def hang(value: int) -> int:
    """Never returns."""
    while True:
        time.sleep(60)
    return value


def end_process(value: int) -> int:
    """Ends the process that runs it, as a crash in native code does."""
    os.abort()
    return value


@function
def same_of_pool(value: int) -> int:
    """Returns its argument."""
    return value


@function
def same_bytes_of_pool(value: bytes) -> bytes:
    """Returns its argument."""
    return value


@function
def same_view_of_pool(value: memoryview) -> memoryview:
    """Returns its argument, which lies in shared memory, as the result does."""
    return value
