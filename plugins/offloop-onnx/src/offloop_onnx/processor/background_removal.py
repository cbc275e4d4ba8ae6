"""Carries out `RemoveBackground`: mask at the model's size, refined at a working size, applied at full size in strips."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offloop.processor import Raster, Task

from ..operations import RemoveBackground
from ..pictures.blurring import blur_radius, smooth
from ..pictures.foreground import estimate_colours, foreground_at
from ..pictures.guided_filter import fit_mask, luminance
from ..pictures.picture import Floats, Picture, Samples, allocate_picture, raster_of, strips, to_samples
from ..pictures.resampling import BilinearMap, reduce_picture, resize
from .model_io import alpha_of, input_of
from .sessions import Session

__all__ = ["remove_background"]

_WORKING_SIDE = 512  # longer side in pixels of the picture that the mask is fitted to
_COLOUR_SIDE = 384  # longer side in pixels of the picture from which the colours on both sides of an edge are estimated
_MASK_RADIUS = 1.5  # half of the guided filter's window, in pixels of the model's mask
_WIDE, _NARROW = 16, 2  # radii in pixels of the two estimates of the colours
_CLEAR, _OPAQUE = 0.1, 0.9  # opacity of a refined mask below and above which a pixel has nothing of the other side
_RUN_FRACTION = 0.3  # progress when the mask is there
_BLUR_PASSES = 3


def remove_background(picture: Picture, operation: RemoveBackground, session: Session, task: Task) -> Raster:
    """Returns the cut-out picture, or its mask, in result memory."""
    mask = _find_mask(picture, operation, session, task)
    task.progress(_RUN_FRACTION)
    return _MaskWriter(picture, operation).write(mask, task)


@dataclass(frozen=True, slots=True)
class _Mask:
    """The mask of a picture, computed for some rows at a time, and the colours on both sides of its edge."""

    values: BilinearMap  # opacity, or slope and offset of the opacity as a function of the luminance
    is_guided: bool
    colours: BilinearMap | None  # estimated colours of foreground and background; None: not needed

    def rows(self, colours: Floats, top: int, bottom: int) -> Floats:
        """Returns the opacity, of shape (rows, width), for the colours of these rows."""
        values = self.values.rows(top, bottom)
        if not self.is_guided:
            return values[..., 0]
        return _clean(values[..., 0] * luminance(colours) + values[..., 1])


def _clean(alpha: Floats) -> Floats:
    return np.clip((alpha - np.float32(_CLEAR)) * np.float32(1 / (_OPAQUE - _CLEAR)), 0, 1)


def _find_mask(picture: Picture, operation: RemoveBackground, session: Session, task: Task) -> _Mask:
    model = session.model
    rows, columns = _model_size(picture, operation)
    scale = min(1.0, max(_WORKING_SIDE, rows, columns) / max(picture.height, picture.width))
    height, width = max(round(picture.height * scale), 1), max(round(picture.width * scale), 1)
    colours = reduce_picture(picture, height, width, task)
    output = session.run(input_of(model, resize(colours, rows, columns)), task)
    alpha = alpha_of(model, output, rows, columns)
    mask = values = resize(alpha, height, width)[..., None]
    is_guided = operation.refine == "guided"
    if is_guided:
        guide = luminance(colours)
        radius = max(round(_MASK_RADIUS * max(height / rows, width / columns)), 2)
        values = fit_mask(guide, mask[..., 0], radius)
        mask = _clean(values[..., 0] * guide + values[..., 1])[..., None]
    estimated = None
    if not operation.mask_only:
        task.checkpoint()
        estimated = BilinearMap(_edge_colours(colours, mask[..., 0]), picture.height, picture.width)
    return _Mask(BilinearMap(values, picture.height, picture.width), is_guided, estimated)


def _edge_colours(colours: Floats, alpha: Floats) -> Floats:
    """Returns the estimated colours of foreground and background at a small size."""
    scale = min(1.0, _COLOUR_SIDE / max(alpha.shape))
    rows, columns = (max(round(side * scale), 1) for side in alpha.shape)
    return estimate_colours(resize(colours, rows, columns), resize(alpha, rows, columns), _WIDE, _NARROW)


def _model_size(picture: Picture, operation: RemoveBackground) -> tuple[int, int]:
    model = operation.onnx_model
    if model.size is not None:
        return model.size
    multiple = model.multiple
    return (max(picture.height // multiple, 1) * multiple, max(picture.width // multiple, 1) * multiple)


class _MaskWriter:
    """Computes the result in strips."""

    def __init__(self, picture: Picture, operation: RemoveBackground) -> None:
        self._picture = picture
        self._operation = operation
        self._radius = blur_radius(operation.feather) if operation.feather else 0
        self._background = operation.background
        self._bands = self._count_bands()
        self._opaque_sum = 0.0  # opacity of all pixels so far

    def _count_bands(self) -> int:
        if self._operation.mask_only:
            return 1
        background, colours = self._background, self._picture.colours
        if background is None:
            return colours + 1
        red, green, blue, *alpha = background
        if not red == green == blue:
            colours = 3
        return colours if not alpha or alpha[0] == 1 else colours + 1

    def write(self, mask: _Mask, task: Task) -> Raster:
        picture, halo = self._picture, _BLUR_PASSES * self._radius
        dtype = picture.samples.dtype.str
        block, result = allocate_picture(task, picture.height, picture.width, self._bands, dtype)
        for top, bottom in strips(picture.height, picture.width, min_rows=2 * halo):
            task.checkpoint()
            first, last = max(top - halo, 0), min(bottom + halo, picture.height)
            alpha = self._finish(mask.rows(picture.colour_floats(first, last), first, last))[top - first : bottom - first]
            self._opaque_sum += float(alpha.sum(dtype=np.float64))
            self._write_rows(result[top:bottom], alpha, mask, top, bottom)
            task.progress(_RUN_FRACTION + (1 - _RUN_FRACTION) * bottom / picture.height)
        coverage = round(self._opaque_sum / (picture.height * picture.width), 6)
        task.add_info({"coverage": coverage, "refine": self._operation.refine, **self._operation.onnx_model.card})
        return raster_of(block, result)

    def _finish(self, alpha: Floats) -> Floats:
        if self._operation.threshold is not None:
            alpha = (alpha >= self._operation.threshold).astype(np.float32)
        return smooth(alpha, self._radius) if self._radius else alpha

    def _write_rows(self, into: Samples, alpha: Floats, mask: _Mask, top: int, bottom: int) -> None:
        picture, white = self._picture, self._picture.white
        source = picture.floats(top, bottom)
        if picture.has_alpha:
            alpha = alpha * source[..., -1]
        if mask.colours is None:
            to_samples(alpha[..., None], into, white)
            return
        colours = np.ascontiguousarray(source[..., : picture.colours])
        rows, columns = np.nonzero((alpha > 0) & (alpha < 1))
        if len(rows):
            estimated = mask.colours.points(rows + top, columns)
            colours[rows, columns] = foreground_at(colours[rows, columns], alpha[rows, columns], estimated)
        to_samples(self._composite(colours, alpha[..., None]), into, white)

    def _composite(self, colours: Floats, alpha: Floats) -> Floats:
        """Returns the bands of the result."""
        if self._background is None:
            return np.concatenate([colours * (alpha > 0), alpha], axis=-1)
        *back, opacity = (*self._background, 1.0)[:4]
        has_alpha = opacity < 1
        bands = self._bands - has_alpha
        below = np.asarray(back[:bands], np.float32) / np.float32(255)
        if not has_alpha:
            return colours * alpha + below * (1 - alpha)
        whole = alpha + np.float32(opacity) * (1 - alpha)
        mixed = (colours * alpha + below * np.float32(opacity) * (1 - alpha)) / np.maximum(whole, np.float32(1e-6))
        return np.concatenate([mixed, whole], axis=-1)
