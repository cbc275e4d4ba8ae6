"""Carries out `Upscale` and `Restore`: tile by tile, from the source in place into the result."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from offloop.processor import Raster, Task

from ..operations import Restore, Upscale
from ..pictures.picture import Floats, Picture, Samples, allocate_picture, raster_of, to_samples
from ..pictures.resampling import enlarge_lanczos
from .model_io import input_of, rgb_of
from .sessions import Session

__all__ = ["upscale"]


class _Span(NamedTuple):
    """One side of a tile, in source pixels."""

    start: int  # first pixel that the tile writes
    stop: int  # pixel after the last that the tile writes
    first: int  # first pixel that the model sees
    last: int  # pixel after the last that the model sees
    seam: int  # pixels from `start` on that are blended with the tile before


def spans(length: int, tile: int, overlap: int) -> list[_Span]:
    """Cuts one side of a picture into tiles. Each writes half of `overlap` more than its part, and the next one is blended over
    that. At the picture's edges the model sees no more than the picture, as if there was one tile only."""
    return [
        _Span(
            start,
            min(start + tile + overlap // 2, length),
            max(start - overlap, 0),
            min(start + tile + overlap, length),
            min(overlap // 2, length - start) if start else 0,
        )
        for start in range(0, length, tile)
    ]


def upscale(picture: Picture, operation: Upscale | Restore, session: Session, task: Task) -> Raster:
    """Returns the enlarged or restored picture in result memory."""
    factor, dtype = operation.factor, picture.samples.dtype.str
    height, width = picture.height * factor, picture.width * factor
    block, result = allocate_picture(task, height, width, picture.bands, dtype)
    rows, columns = (spans(side, operation.tile, operation.overlap) for side in (picture.height, picture.width))
    tiles = [(row, column) for row in rows for column in columns]
    for index, (row, column) in enumerate(tiles):
        task.checkpoint()
        values = _enlarged(picture, row, column, session, task)
        _write_tile(result, values, row, column, factor, picture.white)
        task.progress((index + 1) / len(tiles))
    task.add_info({"tiles": len(tiles), **session.model.card})
    return raster_of(block, result)


def _enlarged(picture: Picture, row: _Span, column: _Span, session: Session, task: Task) -> Floats:
    """Returns the pixels that a tile writes, all bands, enlarged."""
    model = session.model
    seen = picture.floats(row.first, row.last, column.first, column.last)
    colours = seen[..., : picture.colours]
    padding = [(0, -side % model.multiple) for side in colours.shape[:2]]
    padded = np.pad(colours, [*padding, (0, 0)], mode="edge") if model.multiple > 1 else colours
    high, wide = padded.shape[0] * model.scale, padded.shape[1] * model.scale
    values = rgb_of(model, session.run(input_of(model, padded.transpose(2, 0, 1)), task), high, wide)
    if picture.colours == 1:
        values = values.mean(axis=-1, keepdims=True)
    written = _written(values, row, column, model.scale)
    if not picture.has_alpha:
        return written
    alpha = seen[..., -1:] if model.scale == 1 else enlarge_lanczos(seen[..., -1:], model.scale)
    return np.concatenate([written, _written(alpha, row, column, model.scale)], axis=-1)


def _written(values: Floats, row: _Span, column: _Span, factor: int) -> Floats:
    return values[_part(row, row.first, factor), _part(column, column.first, factor)]


def _part(span: _Span, origin: int, factor: int) -> slice:
    return slice((span.start - origin) * factor, (span.stop - origin) * factor)


def _write_tile(result: Samples, values: Floats, row: _Span, column: _Span, factor: int, white: float) -> None:
    """Writes a tile into the result. The seams are blended with the tiles above and to the left."""
    into = result[_part(row, 0, factor), _part(column, 0, factor)]
    down, across = row.seam * factor, column.seam * factor
    if down or across:
        weight = _ramp(into.shape[0], down)[:, None, None] * _ramp(into.shape[1], across)[None, :, None]
        for seam in ((slice(None, down), slice(None)), (slice(down, None), slice(None, across))):
            before = into[seam].astype(np.float32) * np.float32(1 / white)
            values[seam] = before + weight[seam] * (values[seam] - before)
    to_samples(values, into, white)


def _ramp(length: int, seam: int) -> Floats:
    """Returns weights that grow from 0 to 1 over the seam, and are 1 after it."""
    return np.minimum((np.arange(length, dtype=np.float32) + np.float32(0.5)) / np.float32(max(seam, 1)), 1)
