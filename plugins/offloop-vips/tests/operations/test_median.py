"""Median."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from offloop.errors import InvalidTask
from offloop_vips import Median


@pytest.mark.parametrize("size", [3, 7])
def test_it_is_the_median_of_pillow(bench: Any, size: int):
    array = np.random.default_rng(1).integers(0, 256, (30, 40, 1), "u1")
    expected = np.asarray(Image.fromarray(array[..., 0]).filter(ImageFilter.MedianFilter(size)))
    edge = size // 2
    assert (bench.show(array, Median(size))[edge:-edge, edge:-edge, 0] == expected[edge:-edge, edge:-edge]).all()


def test_a_single_pixel_vanishes_and_an_edge_stays(bench: Any):
    array = np.zeros((20, 40, 3), "u1")
    array[:, 20:], array[5, 5] = 200, 255
    shown = bench.show(array, Median())
    array[5, 5] = 0
    assert (shown == array).all()


def test_transparent_colour_does_not_bleed(bench: Any):
    array = np.zeros((20, 40, 4), "u1")
    array[:, :20], array[:, 20:] = (0, 255, 0, 0), (255, 0, 0, 255)
    shown = bench.show(array, Median(5))
    assert (shown[:, 20:] == (255, 0, 0, 255)).all()
    assert (shown[:, :20, 3] == 0).all()


def test_a_picture_smaller_than_the_square_is_filtered(bench: Any):
    assert bench.show(np.full((3, 2, 3), 9, "u1"), Median(50)).shape == (3, 2, 3)


@pytest.mark.parametrize("size", [1, 101, 2.5])
def test_an_invalid_size_is_refused(size: Any):
    with pytest.raises(InvalidTask, match="Median"):
        Median(size)
