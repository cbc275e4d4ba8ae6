"""Convolve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Convolve, Raw

SOBEL = (-1, 0, 1, -2, 0, 2, -1, 0, 1)


def reference(array: Any, kernel: Any, width: int, height: int, scale: float, offset: float = 0) -> Any:
    """Returns the inner part, without the edges."""
    weights = np.array(kernel, float).reshape(height, width)
    rows, columns = array.shape[0] - height + 1, array.shape[1] - width + 1
    total: Any = sum(weights[y, x] * array[y : y + rows, x : x + columns] for y in range(height) for x in range(width))
    return np.floor((total / scale + offset).clip(0, 255) + 0.5).clip(0, 255)


def test_it_is_the_sum_of_weighted_neighbours(bench: Any):
    array = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype("u1")
    shown = bench.show(array, Convolve(5, 1, (1, 2, 3, 2, 1)))
    assert np.abs(shown[:, 2:-2] - reference(array.astype(float), (1, 2, 3, 2, 1), 5, 1, 9)).max() <= 1
    shown = bench.show(array, Convolve(3, 3, SOBEL, offset=100))
    assert np.abs(shown[1:-1, 1:-1] - reference(array.astype(float), SOBEL, 3, 3, 1, 100)).max() <= 1


def test_scale_divides_the_sum(bench: Any):
    array = np.full((9, 9, 1), 40, "u1")
    assert (bench.show(array, Convolve(3, 1, (1, 1, 1))) == 40).all()
    assert (bench.show(array, Convolve(3, 1, (1, 1, 1), scale=1)) == 120).all()
    assert (bench.show(array.astype("u2") * 257, Convolve(1, 1, (2,), 1, 10), Raw("uint16")) == 90 * 257).all()


def test_an_average_keeps_transparent_colours_out_and_blurs_alpha(bench: Any):
    array = np.zeros((20, 40, 4), "u1")
    array[:, :20], array[:, 20:] = (0, 255, 0, 0), (255, 0, 0, 255)
    shown = bench.show(array, Convolve(3, 3, (1,) * 9))
    assert shown[10, 19, 3] == 85
    assert tuple(shown[10, 19, :3]) == (255, 0, 0)


def test_edges_have_the_alpha_of_the_picture(bench: Any):
    array = np.full((20, 40, 4), 90, "u1")
    array[:, 20:, :3] = 250
    shown = bench.show(array, Convolve(3, 3, SOBEL))
    assert (shown[..., 3] == 90).all()
    assert shown[10, 19, 0] > 200
    assert shown[10, 5, 0] == 0


@pytest.mark.parametrize(
    "parameters", [(3, 3, (1,) * 8), (0, 1, ()), (1, 1, (1,), 0), (102, 1, (1,) * 102), (1, 1, (1,), 1, 256)]
)
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Convolve"):
        Convolve(*parameters)
