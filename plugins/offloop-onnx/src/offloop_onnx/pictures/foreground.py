"""Foreground colours: the colour of pixels that foreground and background share (Forte: "Approximate fast foreground colour
estimation", blur fusion).

A pixel of opacity `a` shows `a * foreground + (1 - a) * background`. Both colours are estimated from their surroundings,
weighted by opacity, at a small size. At full size they are corrected so that they explain the pixel.
"""

from __future__ import annotations

import numpy as np

from .blurring import box_mean
from .picture import Floats
from .resampling import resize

__all__ = ["estimate_colours", "foreground_at"]

_REDUCTION = 4  # of the size at which the wide estimate is computed
_TINY = np.float32(1e-3)  # weight of the wide estimate, for pixels whose surroundings are all foreground or all background


def estimate_colours(colours: Floats, alpha: Floats, wide: int, narrow: int) -> Floats:
    """Returns the colours of foreground and background around each pixel.

    Args:
        colours: the picture at a small size, of shape (bands, rows, columns).
        alpha: opacity, of shape (rows, columns).
        wide: radius in pixels of the first estimate, which has to reach over the widest soft edge.
        narrow: radius in pixels of the second one, which follows the details.

    Returns:
        An array of shape (2 * bands, rows, columns): the foreground's bands, then those of the background.
    """
    fore, back = _wide_estimate(colours, alpha, wide)
    explained = foreground_at(colours, alpha, fore, back)
    return np.concatenate([_blend(explained, alpha, narrow, fore), _blend(colours, 1 - alpha, narrow, back)])


def _wide_estimate(colours: Floats, alpha: Floats, radius: int) -> tuple[Floats, Floats]:
    """Returns smooth colours of foreground and background, computed at a fraction of the size."""
    rows, columns = alpha.shape
    small = (-(-rows // _REDUCTION), -(-columns // _REDUCTION))
    colours, alpha, radius = resize(colours, *small), resize(alpha, *small), max(radius // _REDUCTION, 1)
    whole = box_mean(colours, radius)
    fore, back = (_blend(colours, part, radius, whole) for part in (alpha, 1 - alpha))
    return _repeated(fore, rows, columns), _repeated(back, rows, columns)


def _repeated(array: Floats, rows: int, columns: int) -> Floats:
    """Returns a smooth array at full size, without interpolation, because only weighted means of it are used."""
    return array.repeat(_REDUCTION, axis=1)[:, :rows].repeat(_REDUCTION, axis=2)[..., :columns]


def _blend(colours: Floats, weight: Floats, radius: int, otherwise: Floats) -> Floats:
    """Returns the weighted mean around each pixel; `otherwise` where there is no weight."""
    sums = box_mean(np.concatenate([colours * weight, weight[None]]), radius)
    return (sums[:-1] + _TINY * otherwise) / (sums[-1:] + _TINY)


def foreground_at(colours: Floats, alpha: Floats, fore: Floats, back: Floats) -> Floats:
    """Returns the foreground's colours at some pixels.

    Args:
        colours: the pixels as they are.
        alpha: their opacity. Its shape can be broadcast to that of `colours`, as with all other arguments.
        fore: estimated colours of the foreground.
        back: estimated colours of the background.
    """
    change = fore - back
    change *= alpha
    change += back
    np.subtract(colours, change, out=change)
    change *= alpha
    change += fore
    return np.clip(change, 0, 1, out=change)
