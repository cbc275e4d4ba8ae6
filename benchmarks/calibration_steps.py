"""Pipelines for `calibrate_vips.py`: at least one for each operation of offloop-vips, so that none is unmeasured.

An operation that needs no parameters has a pipeline by itself. The others, and those whose costs depend on their parameters,
are written here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from offloop.errors import InvalidTask
from offloop.operation import Attachment, Operation
from offloop_vips import (
    Affine,
    Auto,
    Blur,
    Clahe,
    Composite,
    Convolve,
    Decode,
    EnsureAlpha,
    Extend,
    Extract,
    ExtractChannel,
    Flatten,
    IccProfile,
    JoinChannel,
    Jpeg,
    Linear,
    Median,
    Metadata,
    Modulate,
    Pixelate,
    Png,
    Preview,
    Raw,
    Recomb,
    RemoveAlpha,
    Resize,
    Rotate,
    RoundCorners,
    Sharpen,
    Text,
    Tint,
    Unsharp,
    VipsPlugin,
    Watermark,
    Webp,
)
from offloop_vips.operations import Answer, Step

__all__ = ["STEPS", "needs_mask", "unmeasured"]

_SEPIA = ((0.36, 0.7, 0.14), (0.3, 0.59, 0.11), (0.24, 0.47, 0.09))

_WITHOUT_COSTS = (Decode, Auto, Preview)  # read by every cell; another encoder; handed over only where it is asked for

_WITH_PARAMETERS: list[list[Operation]] = [
    [Resize(3000)],
    [Resize(3000, fast=True)],
    [Resize(700, kernel="nearest")],
    [Resize(5000)],
    [Resize(800, 800, position="attention")],
    [Sharpen(2), Resize(1000), Blur(), Tint("tomato")],
    [Rotate(33, background="#f008"), Blur(3)],
    [Affine((1.1, 0.2, -0.2, 1.1))],
    [Affine((1.1, 0.2, -0.2, 1.1), interpolator="nohalo")],
    [Blur()],
    [Blur(8)],
    [Blur(8), Resize(700)],
    [Blur(8), Unsharp(20)],
    [Clahe(100, 100)],
    [Composite(Attachment.at(1))],
    [Composite(Attachment.at(1), blend="multiply", opacity=0.5)],
    [Convolve(3, 3, (-2, -1, 0, -1, 1, 1, 0, 1, 2))],
    [EnsureAlpha()],
    [EnsureAlpha(0.5), Blur(2)],
    [Extend(50, 50, 50, 50)],
    [Extend(50, 50, 50, 50, extend_with="mirror")],
    [Extract(10, 10, 200, 200)],
    [ExtractChannel("green")],
    [Flatten("white")],
    [IccProfile("p3")],
    [RemoveAlpha()],
    [RemoveAlpha(), JoinChannel(Attachment.at(1))],
    [Linear(1.2, -10)],
    [Median(3)],
    [Median(9)],
    [Metadata(keep=("exif",))],
    [Modulate(1.2, 1.3, 40)],
    [Pixelate(20)],
    [Recomb(_SEPIA)],
    [Rotate(90)],
    [Rotate(180)],
    [Rotate(33)],
    [RoundCorners(60)],
    [Sharpen()],
    [Sharpen(2)],
    [Text("Title", size=60)],
    [Tint("tomato")],
    [Unsharp()],
    [Watermark(Attachment.at(1))],
    [Watermark(Attachment.at(1), tile=True)],
]


def _by_default() -> Iterator[list[Operation]]:
    """Iterates over pipelines of the steps and answers that are not written above, with their default parameters."""
    written = {type(step) for steps in _WITH_PARAMETERS for step in steps}
    for one in VipsPlugin.operations:
        if one in written or not issubclass(one, Step | Answer):
            continue
        try:
            yield [one()] if issubclass(one, Answer) else [one(), Raw()]
        except (TypeError, InvalidTask):
            continue  # `unmeasured` names it


STEPS: list[list[Operation]] = [
    *([*steps, Raw()] for steps in _WITH_PARAMETERS),
    *_by_default(),
    [Raw("float32")],
    [Resize(900), Sharpen(), Webp()],
    [Resize(800, 800, position="entropy"), Jpeg()],
    [Resize(800, 800, fit="contain", background="#fff0"), Png()],
]


def needs_mask(operations: Iterable[Operation]) -> bool:
    """Whether the second picture of a pipeline must be grey: one of colours would make too many bands."""
    return any(isinstance(step, JoinChannel) for step in operations)


def unmeasured(pipelines: Iterable[Iterable[Operation]]) -> set[str]:
    """Returns the names of the operations that none of the pipelines has."""
    measured = {type(step) for steps in pipelines for step in steps}
    return {one.__name__ for one in VipsPlugin.operations if one not in measured and one not in _WITHOUT_COSTS}
