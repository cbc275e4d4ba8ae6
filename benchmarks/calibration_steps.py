"""Pipelines for `calibrate_vips.py`: at least one for each operation of offloop-vips, so that none is unmeasured."""

from __future__ import annotations

from collections.abc import Iterator

from offloop.operation import Attachment, Operation
from offloop_vips import (
    Affine,
    AutoOrient,
    Blur,
    BlurHash,
    Clahe,
    Composite,
    Convolve,
    EnsureAlpha,
    Extend,
    Extract,
    ExtractChannel,
    Flatten,
    Flip,
    Flop,
    Gamma,
    Grayscale,
    IccProfile,
    JoinChannel,
    Jpeg,
    Linear,
    Lqip,
    Median,
    Metadata,
    Modulate,
    Negate,
    Normalise,
    PerceptualHash,
    Pixelate,
    Png,
    Raw,
    Recomb,
    RemoveAlpha,
    Resize,
    Rotate,
    RoundCorners,
    Sharpen,
    Stats,
    Text,
    Threshold,
    ThumbHash,
    Tint,
    Trim,
    Unsharp,
    Watermark,
    Webp,
)
from offloop_vips.operations import Answer, Step

__all__ = ["STEPS", "unmeasured"]

_SEPIA = ((0.36, 0.7, 0.14), (0.3, 0.59, 0.11), (0.24, 0.47, 0.09))

_PIPELINES: list[list[Operation]] = [
    [Resize(3000)],
    [Resize(3000, fast=True)],
    [Resize(700, kernel="nearest")],
    [Resize(5000)],
    [Resize(800, 800, position="attention")],
    [Sharpen(2), Resize(1000), Blur(), Tint("tomato")],
    [Rotate(33, background="#f008"), Blur(3)],
    [Affine((1.1, 0.2, -0.2, 1.1))],
    [Affine((1.1, 0.2, -0.2, 1.1), interpolator="nohalo")],
    [AutoOrient()],
    [Blur()],
    [Blur(8)],
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
    [Flip()],
    [Flop()],
    [Gamma()],
    [Grayscale()],
    [IccProfile("p3")],
    [ExtractChannel("green"), JoinChannel(Attachment.at(1))],
    [Linear(1.2, -10)],
    [Median(3)],
    [Median(9)],
    [Metadata(keep=("exif",))],
    [Modulate(1.2, 1.3, 40)],
    [Negate()],
    [Normalise()],
    [Pixelate(20)],
    [Recomb(_SEPIA)],
    [RemoveAlpha()],
    [Rotate(90)],
    [Rotate(180)],
    [Rotate(33)],
    [RoundCorners(60)],
    [Sharpen()],
    [Sharpen(2)],
    [Text("Title", size=60)],
    [Threshold()],
    [Tint("tomato")],
    [Trim()],
    [Unsharp()],
    [Watermark(Attachment.at(1))],
    [Watermark(Attachment.at(1), tile=True)],
]
STEPS: list[list[Operation]] = [
    *([*steps, Raw()] for steps in _PIPELINES),
    [Raw("float32")],
    [Resize(900), Sharpen(), Webp()],
    [Resize(800, 800, position="entropy"), Jpeg()],
    [Resize(800, 800, fit="contain", background="#fff0"), Png()],
    [BlurHash()],
    [Lqip()],
    [PerceptualHash()],
    [Stats()],
    [ThumbHash()],
]


def unmeasured() -> set[str]:
    """Returns the names of the operations that no pipeline has."""
    measured = {type(step) for steps in STEPS for step in steps}
    return {one.__name__ for base in (Step, Answer) for one in _subclasses(base) if one not in measured}


def _subclasses(base: type[Operation]) -> Iterator[type[Operation]]:
    for one in base.__subclasses__():
        if one.__module__.startswith("offloop_vips."):
            yield one
        yield from _subclasses(one)
