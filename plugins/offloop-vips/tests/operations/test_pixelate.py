"""Pixelate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Pixelate


def test_a_square_has_the_mean_of_its_pixels(bench: Any):
    array = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype("u1")
    expected = array.reshape(4, 5, 6, 5, 3).mean(axis=(1, 3)).repeat(5, 0).repeat(5, 1)
    assert np.abs(bench.show(array, Pixelate(5)) - expected).max() <= 1


def test_squares_at_the_edge_are_cut(bench: Any, smooth: Any):
    shown = bench.show(smooth(33, 21), Pixelate(8))
    assert shown.shape == (21, 33, 3)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) <= 15
    assert bench.show(smooth(33, 21), Pixelate(100)).shape == (21, 33, 3)


def test_transparent_colour_does_not_count(bench: Any):
    array = np.zeros((8, 8, 4), "u1")
    array[:, :4], array[:, 4:] = (0, 255, 0, 0), (255, 0, 0, 255)
    assert (bench.show(array, Pixelate()) == (255, 0, 0, 128)).all()


@pytest.mark.parametrize("size", [1, 0, 1.5])
def test_an_invalid_size_is_refused(size: Any):
    with pytest.raises(InvalidTask, match="Pixelate"):
        Pixelate(size)
