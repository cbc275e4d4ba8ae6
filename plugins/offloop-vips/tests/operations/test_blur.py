"""Blur."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Blur, Raw


def dot(bands: int = 1) -> Any:
    array = np.zeros((41, 41, bands), "u1")
    array[20, 20] = 255
    return array


def test_the_mild_blur_averages_a_pixel_with_its_neighbours(bench: Any):
    shown = bench.show(dot(), Blur())[:, :, 0]
    assert (shown[19:22, 19:22] == 28).all()  # 255 / 9
    assert shown.sum() == 9 * 28


def test_sigma_is_the_width_of_a_gaussian(bench: Any):
    edge = np.zeros((20, 100, 1), "u1")
    edge[:, 50:] = 255
    narrow, wide = (bench.show(edge, Blur(sigma))[10, :, 0].astype(float) for sigma in (2, 6))
    assert np.diff(narrow).max() == pytest.approx(255 / (2 * np.sqrt(2 * np.pi)), rel=0.2)
    assert np.diff(wide).max() == pytest.approx(255 / (6 * np.sqrt(2 * np.pi)), rel=0.2)


def test_a_small_amplitude_gives_the_whole_gaussian(bench: Any):
    edge = np.zeros((20, 100, 1), "u1")
    edge[:, 50:] = 255
    slopes = [np.diff(bench.show(edge, Blur(6, amplitude))[10, :, 0].astype(float)).max() for amplitude in (0.01, 0.2)]
    whole = 255 / (6 * np.sqrt(2 * np.pi))
    assert abs(slopes[0] - whole) < 0.7
    assert slopes[1] > 1.1 * whole


def test_an_amplitude_without_sigma_is_refused():
    with pytest.raises(InvalidTask, match="min_amplitude"):
        Blur(None, 0.1)


def test_transparent_colour_does_not_bleed(bench: Any):
    array = np.zeros((40, 40, 4), "u1")
    array[:, :20] = (0, 255, 0, 0)
    array[:, 20:] = (255, 0, 0, 255)
    for blur in (Blur(), Blur(3.0)):
        shown = bench.show(array, blur)
        visible = shown[shown[:, :, 3] > 20]
        assert visible[:, 1].max() < 10
        assert len(set(shown[20, :, 3])) > 2


def test_a_wide_blur_works_on_a_sequential_source(bench: Any, smooth: Any):
    array = smooth(40, 600)
    assert (bench.show(bench.file(array, ".png"), Blur(60), Raw()) == bench.show(array, Blur(60))).all()


@pytest.mark.parametrize("sigma", [0, 0.29, 1000.1, -1, float("nan"), float("inf"), "1", True])
def test_an_invalid_sigma_is_refused(sigma: Any):
    with pytest.raises(InvalidTask, match=r"Blur.*sigma"):
        Blur(sigma)
