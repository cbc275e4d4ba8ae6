"""Pipeline of a preview: the same steps on a picture that the decoder makes small."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from offloop.operation import Operation

from .geometry import Size
from .operations import Preview, Resize, Rotate
from .operations.geometry.resize import fit_resize
from .pipeline import Pipeline

__all__ = ["preview_pipeline"]


def preview_pipeline(pipeline: Pipeline, preview: Preview, size: Size) -> Pipeline:
    """Returns the pipeline of a preview, for a picture whose size is `size` when it is upright.

    Its first step reduces the picture to what the preview needs, so that the decoder can skip the rest. A Resize then has the
    same crop or margin, reduced by the same factor. `Decode.fail_on` is "none", because the result tells of damage.
    """
    full, scale = size, 1.0  # size after the steps so far, and the reduction of the source in them
    for step in pipeline.preview_steps:
        if isinstance(step, Resize):
            fitting = fit_resize(step, full)
            scale = max(fitting.scaled.width / full.width, fitting.scaled.height / full.height)
            full = fitting.canvas
        elif _swaps_sides(step):
            full = full.transposed
    factor = min(preview.size / max(full), 1.0)
    width, height = _times(size, scale * factor)
    first = Resize(width, height, fit="fill", fast=True)
    steps, full = list[Operation](), size
    for step in pipeline.preview_steps:
        if isinstance(step, Resize):
            full = fit_resize(step, full).canvas
            steps.append(_reduced(step, _times(full, factor)))
        else:
            full = full.transposed if _swaps_sides(step) else full
            steps.append(step)
    decode = msgspec.structs.replace(pipeline.decode, fail_on="none", max_output_side=None, max_output_bytes=None)
    return replace(pipeline, decode=decode, steps=(first, *steps), output_step=preview.encoder, preview=None, preview_steps=())


def _swaps_sides(step: Operation) -> bool:
    return isinstance(step, Rotate) and step.angle % 180 == 90  # noqa: PLR2004 (degrees)


def _reduced(resize: Resize, canvas: Size) -> Resize:
    fit = resize.fit if resize.fit in ("cover", "contain") else "fill"
    return msgspec.structs.replace(resize, width=canvas.width, height=canvas.height, fit=fit)


def _times(size: Size, factor: float) -> Size:
    return Size(max(round(size.width * factor), 1), max(round(size.height * factor), 1))
