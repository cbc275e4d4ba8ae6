"""Fixtures of the operation tests: small pictures, files made from them, and the processor without a pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import pytest
import pyvips

from offloop.operation import Operation
from offloop.processor import Encoded, Payload, Raster
from offloop.testing import run_inline
from offloop_vips.processor import VipsProcessor

Array: TypeAlias = Any  # a numpy array; assertions check shape and dtype


class Bench:
    """Runs operations on arrays and files, and decodes the results."""

    def image(self, array: Array) -> Any:
        return pyvips.Image.new_from_array(array).copy(interpretation="srgb" if array.shape[2] >= 3 else "b-w")

    def file(self, array: Array, suffix: str, orientation: int | None = None, **options: Any) -> bytes:
        image = self.image(array)
        if orientation is not None:
            image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        return image.write_to_buffer(suffix, **options)

    def run(self, source: Any, *operations: Operation, attachments: Sequence[Any] = ()) -> Any:
        payloads = [self.payload(one) for one in attachments]
        return run_inline(VipsProcessor(), self.payload(source), operations, attachments=payloads)

    def payload(self, source: Any) -> Payload:
        if isinstance(source, np.ndarray):
            raster: Any = np.ascontiguousarray(cast("Any", source))
            return Raster(memoryview(raster).cast("B"), raster.shape, raster.dtype.str)
        return Encoded(memoryview(source))

    def read(self, payload: Any) -> Array:
        """Returns the samples of a raster, or of a file as libvips decodes it. Integers are wide enough to subtract."""
        if isinstance(payload, Raster):
            array = np.frombuffer(payload.data, payload.dtype).reshape(payload.shape)
            return array.astype(int) if array.dtype.kind == "u" else array
        array = pyvips.Image.new_from_buffer(bytes(payload.data), "").numpy().astype(int)
        return array if array.ndim == 3 else array[:, :, np.newaxis]

    def show(self, source: Any, *operations: Operation, attachments: Sequence[Any] = ()) -> Array:
        """Returns the samples of the result."""
        return self.read(self.run(source, *operations, attachments=attachments))

    def animation(self, frames: list[Array], suffix: str, durations: list[int]) -> bytes:
        stacked = self.image(np.concatenate(frames))
        stacked.set_type(pyvips.GValue.gint_type, "page-height", frames[0].shape[0])
        stacked.set_type(pyvips.GValue.array_int_type, "delay", durations)
        stacked.set_type(pyvips.GValue.gint_type, "loop", 3)
        return stacked.write_to_buffer(suffix, **({"lossless": True} if suffix == ".webp" else {}))


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def quarters() -> Array:
    """A picture of 60 x 40 pixels, red, green, blue, white by quarter. Its eight orientations are all different."""
    array = np.zeros((40, 60, 3), "u1")
    array[:20, :30], array[:20, 30:], array[20:, :30], array[20:, 30:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    return array


@pytest.fixture
def smooth() -> Callable[..., Array]:
    """Makes pictures of a given size without fine detail, which change little in lossy formats and by scaling."""

    def make(width: int, height: int, bands: int = 3) -> Array:
        y, x = np.mgrid[0:height, 0:width]
        slopes: Any = [x / width, y / height, (x + y) / (width + height), 1 - x / width / 2]
        samples: Any = [np.round(slope * 255) for slope in slopes[:bands]]
        return np.stack(samples, axis=-1).astype("u1")

    return make
