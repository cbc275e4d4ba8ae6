"""Carries out `RemoveBackground`: applies the mask of a picture at full size, in strips.

Most pixels of a picture are far from an edge. They are found at the working size, and their samples are copied as they are.
Only the others are computed, as a list of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from offloop.processor import Raster, Task

from ..operations import RemoveBackground
from ..pictures.blurring import blur_radius, smooth
from ..pictures.foreground import foreground_at
from ..pictures.picture import Floats, Picture, Samples, allocate_picture, put_pixels, raster_of, strips, to_samples
from .masks import IS_CLEAR, IS_MIXED, IS_OPAQUE, ROUNDED, Mask, find_mask
from .sessions import Session

__all__ = ["remove_background"]

_RUN_FRACTION = 0.3  # progress when the mask is there
_BLUR_PASSES = 3
_MIXED_PIXELS = 50_000  # mixed pixels that are computed at a time


def remove_background(picture: Picture, operation: RemoveBackground, session: Session, task: Task) -> Raster:
    """Returns the cut-out picture, or its mask, in result memory."""
    mask = find_mask(picture, operation, session, task)
    task.progress(_RUN_FRACTION)
    return _MaskWriter(picture, operation, mask).write(task)


@dataclass(slots=True)
class _Strip:
    """Opacity of some rows."""

    top: int  # first row
    bottom: int  # row after the last
    states: Samples  # shape (rows, width)
    mixed: Samples  # index of each mixed pixel, counted from the first pixel of the first row
    alpha: Floats  # opacity of each mixed pixel

    @classmethod
    def of(cls, top: int, bottom: int, alpha: Floats) -> _Strip:
        """Returns the strip for the opacity of all pixels, of shape (rows, width)."""
        strip = cls(top, bottom, np.full(alpha.shape, IS_MIXED, np.uint8), np.arange(alpha.size), alpha.reshape(-1))
        strip.settle()
        return strip

    def settle(self) -> None:
        """Finds the mixed pixels that are clear or opaque."""
        states = (self.alpha > ROUNDED).astype(np.uint8)  # the states are the numbers 0, 1 and 2
        states += self.alpha >= 1 - ROUNDED
        np.put(self.states, self.mixed, states)
        is_mixed = states == IS_MIXED
        self.mixed, self.alpha = self.mixed[is_mixed], self.alpha[is_mixed]

    def parts(self) -> Iterator[_Strip]:
        """Returns strips with the same rows and a bounded number of mixed pixels each, because these take much memory."""
        for start in range(0, len(self.mixed), _MIXED_PIXELS):
            part = slice(start, start + _MIXED_PIXELS)
            yield _Strip(self.top, self.bottom, self.states, self.mixed[part], self.alpha[part])

    def opacity(self) -> Floats:
        """Returns the opacity of all pixels, of shape (rows, width)."""
        alpha: Floats = (self.states == IS_OPAQUE).astype(np.float32)
        alpha.reshape(-1)[self.mixed] = self.alpha
        return alpha

    def positions(self) -> tuple[Samples, Samples]:
        """Returns row and column of the mixed pixels in the picture."""
        width = self.states.shape[1]
        rows = self.mixed // width
        return rows + self.top, self.mixed - rows * width


class _MaskWriter:
    """Computes the result in strips."""

    def __init__(self, picture: Picture, operation: RemoveBackground, mask: Mask) -> None:
        self._picture = picture
        self._operation = operation
        self._mask = mask
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

    def write(self, task: Task) -> Raster:
        picture = self._picture
        dtype = picture.samples.dtype.str
        block, result = allocate_picture(task, picture.height, picture.width, self._bands, dtype)
        for top, bottom in strips(picture.height, picture.width, min_rows=2 * _BLUR_PASSES * self._radius):
            task.checkpoint()
            strip = self._feathered(top, bottom) if self._radius else self._strip(top, bottom)
            if picture.has_alpha:
                self._multiply_alpha(strip)
            self._opaque_sum += float(strip.alpha.sum(dtype=np.float64)) + int(np.count_nonzero(strip.states == IS_OPAQUE))
            self._write_plain(result[top:bottom], strip)
            for part in strip.parts():
                put_pixels(self._mixed_values(part), part.mixed, result[top:bottom], picture.white)
            task.progress(_RUN_FRACTION + (1 - _RUN_FRACTION) * bottom / picture.height)
        coverage = round(self._opaque_sum / (picture.height * picture.width), 6)
        info = {"coverage": coverage, "refine": self._operation.refine, "passes": self._mask.passes}
        task.add_info(info | self._operation.onnx_model.card)
        return raster_of(block, result)

    def _strip(self, top: int, bottom: int) -> _Strip:
        """Returns the mask of some rows, before it is feathered."""
        states = self._mask.states(top, bottom, self._picture.width)
        mixed = np.flatnonzero(states == IS_MIXED)
        strip = _Strip(top, bottom, states, mixed, np.empty(len(mixed), np.float32))
        for part in strip.parts():
            part.alpha[:] = self._mask.points(self._picture.colours_at(top, bottom, part.mixed), *part.positions())
        threshold = self._operation.threshold
        if threshold is not None:
            strip.alpha = (strip.alpha >= threshold).astype(np.float32)
            if threshold == 0:
                states[states == IS_CLEAR] = IS_OPAQUE
        strip.settle()
        return strip

    def _feathered(self, top: int, bottom: int) -> _Strip:
        """Returns the mask of some rows, blurred. It is computed with the rows around them."""
        halo = _BLUR_PASSES * self._radius
        first, last = max(top - halo, 0), min(bottom + halo, self._picture.height)
        alpha = smooth(self._strip(first, last).opacity(), self._radius)
        return _Strip.of(top, bottom, alpha[top - first : bottom - first])

    def _multiply_alpha(self, strip: _Strip) -> None:
        """Multiplies the mask with the alpha band of the picture."""
        source = self._picture.samples[strip.top : strip.bottom, :, -1]
        partial = np.flatnonzero((strip.states == IS_OPAQUE) & (source < self._picture.white))
        strip.states.reshape(-1)[partial] = IS_MIXED
        strip.alpha = np.concatenate([strip.alpha, np.ones(len(partial), np.float32)])
        strip.mixed = np.concatenate([strip.mixed, partial])
        strip.alpha *= source.reshape(-1)[strip.mixed].astype(np.float32) * np.float32(1 / self._picture.white)
        strip.settle()

    def _write_plain(self, into: Samples, strip: _Strip) -> None:
        """Writes the pixels that are clear or opaque."""
        picture, is_opaque = self._picture, strip.states == IS_OPAQUE
        source = picture.samples[strip.top : strip.bottom]
        clear = np.zeros(self._bands, into.dtype)
        to_samples(self._below(), clear, picture.white)
        if not self._operation.mask_only and source.shape == into.shape and not picture.has_alpha:
            into[...] = source  # because one copy is faster than one for each band
        else:
            for band in range(self._bands):
                is_colour = not self._operation.mask_only and band < self._colour_bands
                into[..., band] = source[..., min(band, picture.colours - 1)] if is_colour else picture.white
        for band in range(self._bands):
            np.copyto(into[..., band], clear[band], where=~is_opaque)

    @property
    def _colour_bands(self) -> int:
        return 1 if self._bands < 3 else 3  # noqa: PLR2004 (red, green, blue)

    def _below(self) -> Floats:
        """Returns the new background, all bands of the result. Without opacity its colour is black."""
        *back, opacity = (*self._background, 1.0)[:4] if self._background else (0, 0, 0, 0)
        bands = [level / 255 * (opacity > 0) for level in back[: self._colour_bands]]
        return np.array([*bands, opacity][: self._bands], np.float32)

    def _mixed_values(self, strip: _Strip) -> Floats:
        """Returns the bands of the result for the mixed pixels, of shape (bands, pixels)."""
        alpha = strip.alpha[None]
        estimated = self._mask.edge_colours(*strip.positions())
        if estimated is None:
            return alpha
        colours = self._picture.colours_at(strip.top, strip.bottom, strip.mixed, is_flattened=False)
        bands = len(colours)
        colours = foreground_at(colours, alpha, estimated[:bands], estimated[bands:])
        if self._background is None:
            return np.concatenate([colours, alpha])
        has_alpha = self._bands > self._colour_bands
        below = self._below()[:, None]
        if not has_alpha:
            return colours * alpha + below * (1 - alpha)
        behind = below[-1] * (1 - alpha)
        whole = alpha + behind
        mixed = (colours * alpha + below[:-1] * behind) / np.maximum(whole, np.float32(1e-6))
        return np.concatenate([mixed, whole])
