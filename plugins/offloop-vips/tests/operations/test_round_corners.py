"""Round corners."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import RoundCorners


def alpha_of(width: int, height: int, radius: float) -> Any:
    """Returns the covered fraction of each pixel, from 64 points of each."""
    points = (np.arange(8) + 0.5) / 8
    x = (np.arange(width)[:, None] + points).ravel()
    y = (np.arange(height)[:, None] + points).ravel()
    radius = min(radius, width / 2, height / 2)
    dx = np.maximum(np.abs(x - width / 2) - (width / 2 - radius), 0)
    dy = np.maximum(np.abs(y - height / 2) - (height / 2 - radius), 0)
    inside = dx[None, :] ** 2 + dy[:, None] ** 2 <= radius**2
    return inside.reshape(height, 8, width, 8).mean(axis=(1, 3)) * 255


@pytest.mark.parametrize(("width", "height", "radius"), [(40, 30, 10), (31, 31, 100), (50, 20, 4.5)])
def test_alpha_is_the_covered_part_of_a_pixel(bench: Any, smooth: Any, width: int, height: int, radius: float):
    shown = bench.show(smooth(width, height), RoundCorners(radius))
    assert np.abs(shown[..., 3] - alpha_of(width, height, radius)).max() < 20
    assert (shown[..., :3] == smooth(width, height)).all()


def test_the_alpha_of_a_picture_is_multiplied(bench: Any):
    array = np.full((30, 30, 2), 100, "u1")
    shown = bench.show(array, RoundCorners(10))
    assert (shown[0, 0, 1], shown[15, 15, 1]) == (0, 100)


@pytest.mark.parametrize("radius", [0, -1, "1"])
def test_an_invalid_radius_is_refused(radius: Any):
    with pytest.raises(InvalidTask, match="RoundCorners"):
        RoundCorners(radius)
