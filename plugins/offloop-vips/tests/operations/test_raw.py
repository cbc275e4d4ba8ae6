"""Raw output, and raster sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop.processor import Raster
from offloop.testing import run_inline
from offloop_vips import Blur, Decode, Raw
from offloop_vips.processor import VipsProcessor


@pytest.mark.parametrize(("dtype", "code"), [("uint8", "|u1"), ("uint16", "<u2"), ("float32", "<f4")])
def test_samples_have_the_requested_dtype(bench: Any, quarters: Any, dtype: Any, code: str):
    result = bench.run(bench.file(quarters, ".png"), Raw(dtype))
    assert (result.shape, result.dtype) == ((40, 60, 3), code)
    assert result.data.nbytes == 40 * 60 * 3 * np.dtype(code).itemsize
    assert (bench.read(result) == quarters.astype(int) * (257 if dtype == "uint16" else 1)).all()
    assert result.info["width"] == 60
    assert result.info["dtype"] == dtype


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_a_raster_without_an_output_step_gives_a_raster(bench: Any, bands: int):
    array = np.random.default_rng(7).integers(0, 256, (5, 7, bands), "u1")
    assert (bench.show(array) == array).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "nbytes"),
    [
        ((4, 4, 3), "<f4", 192),
        ((4, 4, 5), "|u1", 80),
        ((0, 4, 3), "|u1", 0),
        ((4, 4, 3), "|u1", 47),
        ((4, 4, 0), "|u1", 0),
        ((16,), "|u1", 16),
        ((4, 4, 3, 1), "|u1", 48),
    ],
)
def test_a_raster_that_is_not_a_picture_is_refused(shape: Any, dtype: str, nbytes: int):
    with pytest.raises(InvalidTask, match="a raster of"):
        run_inline(VipsProcessor(), Raster(bytes(nbytes), shape, dtype), [Blur()])


def test_a_raster_of_height_and_width_has_one_band(bench: Any):
    array = np.arange(35, dtype="u1").reshape(5, 7)
    payload = run_inline(VipsProcessor(), Raster(array.tobytes(), (5, 7), "|u1"), [Raw()])
    assert isinstance(payload, Raster)
    assert (payload.shape, bytes(payload.data)) == ((5, 7, 1), array.tobytes())


def test_decode_is_refused_for_a_raster(bench: Any, quarters: Any):
    with pytest.raises(InvalidTask, match="raster already"):
        bench.run(quarters, Decode())


def test_an_unknown_dtype_is_refused():
    with pytest.raises(InvalidTask, match=r"Raw.*float16"):
        Raw("float16")  # type: ignore[arg-type]
