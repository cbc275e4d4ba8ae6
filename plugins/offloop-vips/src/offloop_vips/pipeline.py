"""Order of the operations in a pipeline: Decode first, an encoder or Raw last, the other steps between in the given order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from offloop.errors import InvalidTask
from offloop.operation import Operation, describe

from .geometry import Size
from .headers.formats import FormatName
from .operations import (
    Answer,
    Auto,
    AutoOrient,
    Avif,
    Decode,
    Encoder,
    Grayscale,
    IccProfile,
    Jpeg,
    Png,
    Preview,
    Raw,
    Resize,
    Rotate,
    Tiles,
    Tint,
    Webp,
)
from .operations.geometry.resize import fit_resize

__all__ = ["Pipeline", "default_encoder", "load_shrink_factor"]

_SHRINKABLE_FORMATS = ("jpeg", "webp")
_SHRINK_FACTORS = (8, 4, 2)  # supported by JPEG decoders
# Least reduction for each factor. sharp has the same limits: below them the decoder's averages cost 9 to 24 dB of PSNR to a
# resize of all pixels, because the resize has hardly any pixels left to choose from.
_LEAST_REDUCTIONS = {8: 9, 4: 5, 2: 3}
_BEFORE_PREVIEW = (AutoOrient, Grayscale, Resize, Rotate, Tint)  # steps that give the same picture at every size
_DEFAULT_DECODE = Decode()  # made once, because the check of its fields takes a fifth of the time of an estimate


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The operations of a task by their roles."""

    decode: Decode  # given, or the default
    steps: tuple[Operation, ...]  # between decode and output step
    output_step: Encoder | Auto | Raw | Answer | Tiles | None
    """Last operation, if it makes a file, samples or an answer. None: the output has the kind of the source."""
    preview: Preview | None = None
    preview_steps: tuple[Operation, ...] = ()  # steps before the preview

    @classmethod
    def of(cls, operations: Sequence[Operation], *, encoded: bool) -> Pipeline:
        """Makes a pipeline from a list of operations. `encoded` tells that the source is a file, and not a raster.

        Raises:
            InvalidTask: an operation stands in a position where it cannot be applied.
        """
        for index, operation in enumerate(operations):
            if isinstance(operation, Decode):
                _check_decode(operation, index, encoded=encoded)
            if isinstance(operation, Encoder | Auto | Raw | Answer | Tiles) and index != len(operations) - 1:
                following = describe(operations[index + 1])
                raise InvalidTask(f"{describe(operation)} ends a pipeline, but {following} comes after it")
        decode, output_step = None, None
        if operations and isinstance(first := operations[0], Decode):
            decode, operations = first, operations[1:]
        if operations and isinstance(last := operations[-1], Encoder | Auto | Raw | Answer | Tiles):
            output_step, operations = last, operations[:-1]
            if isinstance(last, Answer):
                operations = (*operations, *last.steps)
        steps = tuple(step for step in operations if not isinstance(step, Preview))
        preview, preview_steps = _find_preview(operations)
        return cls(_with_colours(decode or _DEFAULT_DECODE, steps), steps, output_step, preview, preview_steps)

    @property
    def first_resize(self) -> tuple[Resize, bool] | None:
        """The resize that is the first step, and whether the picture is upright by then; None if another step is first.

        For a first resize the decoder can skip detail that the resize would discard.
        """
        auto_orient = self.decode.auto_orient
        for step in self.steps:
            if isinstance(step, AutoOrient):
                auto_orient = True
            else:
                return (step, auto_orient) if isinstance(step, Resize) else None
        return None


def _with_colours(decode: Decode, steps: Sequence[Operation]) -> Decode:
    """Returns the parameters with the colour space that "auto" stands for, if it is not sRGB."""
    is_wide = decode.colours == "auto" and any(isinstance(step, IccProfile) and step.profile == "p3" for step in steps)
    return msgspec.structs.replace(decode, colours="p3") if is_wide else decode


def default_encoder(source: FormatName, pages: int) -> Encoder:
    """Returns the encoder for a pipeline without an output step: the source's format with its defaults.

    GIF and TIFF sources become PNG, which is lossless. Several pages become a WebP animation.
    """
    if pages > 1:
        return Webp()
    return {"jpeg": Jpeg, "webp": Webp, "avif": Avif}.get(source, Png)()


def load_shrink_factor(pipeline: Pipeline, source: FormatName, stored: Size, orientation: int, *, has_alpha: bool) -> int:
    """Returns the factor by which the decoder shrinks a page; 1 if it does not shrink.

    With `Resize(fast=True)` it is the largest factor that leaves at least the size that the resize scales to. A picture with
    alpha is not shrunk, because the decoder would mix the colours of transparent pixels in.
    """
    if source not in _SHRINKABLE_FORMATS or has_alpha or pipeline.first_resize is None:
        return 1
    resize, auto_orient = pipeline.first_resize
    if resize.kernel == "nearest":  # because this kernel picks pixels of the original
        return 1
    size = stored.transposed if auto_orient and orientation >= 5 else stored  # noqa: PLR2004 (5 to 8 swap width and height)
    scaled = fit_resize(resize, size).scaled
    if resize.fast:
        return next((n for n in _SHRINK_FACTORS if size.width // n >= scaled.width and size.height // n >= scaled.height), 1)
    reduction = min(size.width / scaled.width, size.height / scaled.height)
    return next((factor for factor, least in _LEAST_REDUCTIONS.items() if reduction >= least), 1)


def _find_preview(operations: Sequence[Operation]) -> tuple[Preview | None, tuple[Operation, ...]]:
    """Returns the Preview of a pipeline, and the steps before it."""
    previews = [(index, step) for index, step in enumerate(operations) if isinstance(step, Preview)]
    if not previews:
        return None, ()
    index, preview = previews[0]
    before = tuple(operations[:index])
    if len(previews) > 1:
        raise InvalidTask(f"{describe(previews[1][1])} is a second Preview, and a pipeline has one")
    if sum(isinstance(step, Resize) for step in before) > 1:
        raise InvalidTask(f"{describe(preview)} comes after two Resize, but only one can come before it")
    for step in before:
        if not isinstance(step, _BEFORE_PREVIEW) or (isinstance(step, Rotate) and step.angle % 90 != 0):
            raise InvalidTask(f"{describe(preview)} cannot come after {describe(step)}; put it before")
    return preview, before


def _check_decode(decode: Decode, index: int, *, encoded: bool) -> None:
    if not encoded:
        raise InvalidTask(f"{describe(decode)}: the source is a raster already, so there is nothing to decode")
    if index != 0:
        raise InvalidTask(f"{describe(decode)} can only be the first step, but it is step {index + 1}")
