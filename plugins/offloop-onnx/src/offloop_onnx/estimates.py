"""Estimates of a pipeline's memory and time in a worker, from the models and the size of the picture.

Source and result are in shared memory and are not counted. What is left does not grow with the picture: the model's own memory
for one input, maps at a working size, and one strip or one tile.

A number without a derivation was measured by `benchmarks/calibrate_onnx.py` with ONNX Runtime 1.32, and rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offloop.operation import Estimate, Header, Operation, SourceHeader

from .onnx_model import OnnxModel
from .operations import RemoveBackground, Restore, RunModel, Upscale
from .shipped_models import PEOPLE, SHIPPED_MODELS

__all__ = ["estimate", "source_after"]

_FIXED_NBYTES = 15_000_000  # activations of the model for people, and what a first task takes once
_WORKING_SIDE = 256  # pixels; see `processor.views`
_WORKING_PIXEL_NBYTES = 65  # for each pixel of the working size
_REDUCED_PIXEL_NBYTES = 12  # for each pixel of a picture that is reduced to about the working size, but not fitted to
_SEARCH_NBYTES = 9_000_000  # holes in the heap after runs on windows of the picture, whether these will be needed or not
_STRIP_PIXELS = 200_000  # see `pictures.picture`
_STRIP_PIXEL_NBYTES = (25, 50, 50, 55)  # for each pixel of a strip, by bands
_SMOOTH_PIXEL_NBYTES = 50  # for each pixel of a strip with the rows around it, with `feather`
_TILES_NBYTES = 16_000_000  # freed memory that the heap keeps between two tiles
_TILE_PIXEL_NBYTES = 2200  # activations of the shipped model for each pixel that it sees

_RUN_S = 0.06  # CPU time of the shipped model for people, and of the maps at the working size
_PIXEL_NS = (10, 20, 30, 40)  # CPU time for each pixel of the picture, by bands
_SMOOTH_PIXEL_NS = 80  # CPU time for each pixel of a strip with the rows around it, with `feather`
_TILE_PIXEL_NS = 14_500  # CPU time for each pixel that the shipped models for photographs see

_UNKNOWN = Header(media_type="", width=6000, height=4000, bands=4)  # when the picture comes from another plugin


@dataclass(frozen=True, slots=True)
class _Cost:
    """Cost of one operation."""

    peak_nbytes: float
    work_s: float
    output_nbytes: int


def estimate(header: Header | None, operations: Sequence[Operation], nbytes: int) -> Estimate | None:
    """Estimates operations on a picture with this header, of `nbytes` bytes.

    Returns:
        None if a model has no `peak_bytes`.
    """
    picture = header or _UNKNOWN
    peak, work, output = 0.0, 0.0, 0
    for operation in operations:
        cost = _cost(operation, picture, nbytes)
        if cost is None:
            return None
        peak, work, output = max(peak, cost.peak_nbytes), work + cost.work_s, max(output, cost.output_nbytes)
        picture, nbytes = _after(operation, picture), cost.output_nbytes
    return Estimate(peak_bytes=int(peak + _FIXED_NBYTES), work_s=work, output_bytes=output if header else 0)


def source_after(source: SourceHeader, operations: Sequence[Operation]) -> SourceHeader:
    """Predicts the samples that the operations make of a picture. Nothing is known of the output of a `RunModel`."""
    picture, nbytes = source.header, source.nbytes
    if picture is None or picture.media_type or any(isinstance(operation, RunModel) for operation in operations):
        return SourceHeader(None, 0)
    sample_nbytes = max(nbytes // (picture.width * picture.height * _bands(picture)), 1)
    for operation in operations:
        picture = _after(operation, picture)
    return SourceHeader(picture, picture.width * picture.height * _bands(picture) * sample_nbytes)


def _cost(operation: Operation, picture: Header, nbytes: int) -> _Cost | None:
    match operation:
        case RemoveBackground():
            return _background_removal(operation, picture, nbytes)
        case Upscale() | Restore():
            return _upscaling(operation, picture, nbytes)
        case RunModel():
            return _model_run(operation.model, picture, nbytes)
        case _:
            return None


def _background_removal(operation: RemoveBackground, picture: Header, nbytes: int) -> _Cost | None:
    model = operation.onnx_model
    if model != PEOPLE and not model.peak_bytes:
        return None
    pixels, bands = picture.width * picture.height, _bands(picture)
    factor = max(max(picture.width, picture.height) // max(_WORKING_SIDE, *model.size), 1) if model.size else 1
    if model.size and min(model.size) >= _WORKING_SIDE:
        working = _REDUCED_PIXEL_NBYTES * pixels / factor**2 + _WORKING_PIXEL_NBYTES * model.size[0] * model.size[1]
    else:
        working = _WORKING_PIXEL_NBYTES * pixels / factor**2
    rows = max(_STRIP_PIXELS // picture.width, 1)
    halo = 3 * round(operation.feather)
    high = min(max(rows, 2 * halo), picture.height)
    strip = _STRIP_PIXEL_NBYTES[bands - 1] * high * picture.width
    work = _RUN_S + model.work_s + _PIXEL_NS[bands - 1] * pixels / 1e9
    if halo:
        around = min(high + 2 * halo, picture.height)
        strip = max(strip, _SMOOTH_PIXEL_NBYTES * around * picture.width)
        work += _SMOOTH_PIXEL_NS * pixels * around / high / 1e9
    made = 1 if operation.mask_only else bands + 1
    search = _SEARCH_NBYTES if model.second_pass and model.mirrored else 0
    return _Cost(max(working + model.peak_bytes, strip) + search, work, nbytes * made // bands)


def _upscaling(operation: Upscale | Restore, picture: Header, nbytes: int) -> _Cost | None:
    model = operation.onnx_model
    if model not in SHIPPED_MODELS and not model.peak_bytes:
        return None
    seen = operation.tile + 2 * operation.overlap
    tile = min(seen, picture.width) * min(seen, picture.height)
    across, down = -(-picture.width // operation.tile), -(-picture.height // operation.tile)
    around = (picture.width + 2 * operation.overlap * across) * (picture.height + 2 * operation.overlap * down)
    peak = max(_TILE_PIXEL_NBYTES * tile, model.peak_bytes) + _TILES_NBYTES
    work = model.work_s * across * down or _TILE_PIXEL_NS * around / 1e9
    return _Cost(peak, work, nbytes * operation.factor * operation.factor)


def _model_run(model: OnnxModel, picture: Header, nbytes: int) -> _Cost | None:
    if not model.peak_bytes:
        return None
    side = model.size or (picture.height, picture.width)
    maps = _WORKING_PIXEL_NBYTES * side[0] * side[1] if model.input != "tensor" else 2 * nbytes
    strip = _STRIP_PIXELS * _STRIP_PIXEL_NBYTES[_bands(picture) - 1]
    return _Cost(max(maps + model.peak_bytes, strip), model.work_s + _RUN_S, max(nbytes, model.peak_bytes // 4))


def _after(operation: Operation, picture: Header) -> Header:
    """Returns the header of the picture that an operation makes."""
    bands = _bands(picture)
    if isinstance(operation, Upscale):
        factor = operation.factor
        return Header(media_type="", width=picture.width * factor, height=picture.height * factor, bands=bands)
    if isinstance(operation, RemoveBackground):
        is_opaque = operation.background is not None and (*operation.background, 1)[3] == 1
        made = 1 if operation.mask_only else (3 if is_opaque else 4) if bands > 2 else 2  # noqa: PLR2004 (colour)
        return Header(media_type="", width=picture.width, height=picture.height, bands=made)
    return picture


def _bands(picture: Header) -> int:
    return min(max(picture.bands or 3, 1), 4)
