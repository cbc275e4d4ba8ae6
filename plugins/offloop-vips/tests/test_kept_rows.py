"""Rows that are kept between two steps: only where they save work, and with the same result."""

from __future__ import annotations

import ctypes
from typing import Any, cast

import numpy as np
import pytest
import pyvips

from offloop.operation import Operation
from offloop_vips import (
    Affine,
    Blur,
    Clahe,
    Convolve,
    Extract,
    Flip,
    Grayscale,
    Median,
    Modulate,
    Negate,
    Raw,
    Resize,
    Rotate,
    Sharpen,
    Unsharp,
)
from offloop_vips.operations.kept_rows import kept_rows
from offloop_vips.operations.step import RowReads

KEPT: dict[str, list[Operation]] = {
    "a reduction": [Blur(20), Resize(100)],
    "a reduction to a few pixels": [Blur(20), Resize(9)],
    "colours between": [Blur(20), Negate(), Resize(100)],
    "costly colours": [Modulate(1.2, 1.3, 40), Resize(100)],
    "a matrix": [Convolve(3, 3, (1, 2, 1, 2, 4, 2, 1, 2, 1)), Resize(100)],
    "a window after a turn": [Rotate(20), Blur(40)],
}
NOT_KEPT: dict[str, list[Operation]] = {
    "a blur at the end": [Blur(20)],
    "a window after a window": [Blur(20), Unsharp(radius=20)],
    "an enlargement": [Median(9), Resize(1200)],
    "colours after a blur": [Blur(20), Negate(), Grayscale()],
    "a narrow window": [Blur(2), Sharpen()],
    "a part": [Blur(20), Extract(5, 5, 50, 50)],
    "a copy": [Blur(20), Rotate(90), Sharpen()],
    "a copy, then a window": [Blur(20), Clahe(60, 60)],
    "a copy, then a matrix": [Blur(20), Affine((1.1, 0.2, -0.2, 1.1))],
    "cheap colours": [Negate(), Resize(100)],
    "a choice of pixels": [Blur(20), Resize(100, kernel="nearest")],
    "a width": [Blur(20), Resize(100, 300, fit="fill")],
    "a reduction alone": [Resize(100)],
}
"""Steps of a file of 500 x 300 pixels, at most once where rows are kept."""

WIDTH, HEIGHT = 500, 300


@pytest.fixture
def pixels() -> Any:
    return np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), "u1")


def caches(capfd: Any, bench: Any, source: Any, *steps: Operation) -> int:
    """Returns the number of tile caches that libvips makes for a pipeline, from the list of operations that it prints."""
    vips = cast("Any", pyvips)
    capfd.readouterr()
    vips.cache_set_trace(True)
    try:
        bench.run(source, *steps, Raw())
    finally:
        vips.cache_set_trace(False)
    ctypes.CDLL(None).fflush(None)
    printed = capfd.readouterr().out
    assert "vips cache" in printed
    return printed.count("tilecache")


@pytest.mark.parametrize("steps", KEPT.values(), ids=KEPT)
def test_rows_are_kept_where_they_would_be_computed_again(capfd: Any, bench: Any, pixels: Any, steps: list[Operation]):
    assert caches(capfd, bench, bench.file(pixels, ".png"), *steps) == 1


@pytest.mark.parametrize("steps", NOT_KEPT.values(), ids=NOT_KEPT)
def test_no_rows_are_kept_where_they_are_computed_once(capfd: Any, bench: Any, pixels: Any, steps: list[Operation]):
    assert caches(capfd, bench, bench.file(pixels, ".png"), *steps) == 0


@pytest.mark.parametrize("step", [Rotate(33), Affine((0.8, 0.6, -0.6, 0.8))])
def test_samples_are_kept_for_a_turn_of_their_tiles(capfd: Any, bench: Any, pixels: Any, step: Operation):
    assert caches(capfd, bench, pixels, Blur(20), step) == 1
    blurred = bench.show(pixels, Blur(20), Raw()).astype("u1")
    assert np.array_equal(bench.show(pixels, Blur(20), step, Raw()), bench.show(blurred, step, Raw()))


@pytest.mark.parametrize("step", [Resize(100), Rotate(90), Flip(), Affine((2, 0, 0, 2))])
def test_no_samples_are_kept_for_a_step_that_reads_them_once(capfd: Any, bench: Any, pixels: Any, step: Operation):
    assert caches(capfd, bench, pixels, Blur(20), step) == 0


@pytest.mark.parametrize("steps", KEPT.values(), ids=KEPT)
def test_kept_rows_do_not_change_the_result(bench: Any, pixels: Any, steps: list[Operation]):
    first, *others = steps
    alone = bench.show(bench.file(pixels, ".png"), first, Raw()).astype("u1")
    assert np.array_equal(bench.show(bench.file(pixels, ".png"), *steps, Raw()), bench.show(alone, *others, Raw()))


@pytest.mark.parametrize("steps", [[Blur(20), Unsharp(radius=20)], [Median(9), Sharpen(2)]])
def test_samples_are_kept_for_a_window(capfd: Any, bench: Any, pixels: Any, steps: list[Operation]):
    assert caches(capfd, bench, pixels, *steps) == 1
    first, second = steps
    alone = bench.show(pixels, first, Raw()).astype("u1")
    assert np.array_equal(bench.show(pixels, *steps, Raw()), bench.show(alone, second, Raw()))


@pytest.mark.parametrize(("suffix", "height", "sigma"), [(".tif", 777, 20), (".png", 1400, 150)])
def test_a_decoder_still_has_the_rows_for_a_window_after_a_window(bench: Any, suffix: str, height: int, sigma: float):
    samples = np.random.default_rng(3).integers(0, 65_536, (height, 601, 3), "u2")
    file = pyvips.Image.new_from_array(samples).copy(interpretation="rgb16").write_to_buffer(suffix)
    steps = [Sharpen(), Blur(sigma), Extract(1, height // 2, 599, 100), Raw("uint16")]
    assert np.array_equal(bench.show(file, *steps), bench.show(samples, *steps))


@pytest.mark.parametrize("size", [(40, 900), (900, 40), (700, 600), (129, 257)])
@pytest.mark.parametrize("steps", [[Blur(60), Resize(30)], [Blur(2), Resize(height=25)]])
def test_kept_rows_of_a_file_with_alpha_do_not_change_the_result(bench: Any, size: tuple[int, int], steps: list[Operation]):
    samples = np.random.default_rng(2).integers(0, 256, (size[1], size[0], 4), "u1")
    shown = bench.show(bench.file(samples, ".png"), *steps, Raw())
    assert np.array_equal(shown, bench.show(samples, *steps, Raw()))


def test_rows_are_kept_in_whole_tiles_if_that_saves_more_than_a_copy_takes():
    assert kept_rows(0, RowReads(128, 9)) == kept_rows(100, RowReads(128, 1)) == kept_rows(2, RowReads(128, 1.6)) == 0
    assert kept_rows(100, RowReads(1, 2)) == kept_rows(100, RowReads(128, 2)) == 256
    assert kept_rows(100, RowReads(129, 2)) == 384
