"""Unsharp mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from offloop.errors import InvalidTask
from offloop_vips import Raw, Unsharp


def test_it_is_close_to_the_unsharp_mask_of_pillow(bench: Any):
    array = np.random.default_rng(1).integers(0, 256, (6, 8, 3)).repeat(10, 0).repeat(10, 1).astype("u1")
    expected = np.asarray(Image.fromarray(array).filter(ImageFilter.UnsharpMask())).astype(int)
    shown = bench.show(array, Unsharp())
    assert np.abs(shown - expected).mean() < 2  # Pillow has box filters instead of the Gaussian
    assert np.abs(shown - array).mean() > 8


def test_differences_up_to_the_threshold_stay(bench: Any):
    array = np.full((20, 40, 1), 100, "u1")
    array[:, 20:] = 104
    assert (bench.show(array, Unsharp()) == array).all()
    assert (bench.show(array, Unsharp(threshold=0)) != array).any()
    deep = array.astype("u2") * 257
    assert (bench.show(deep, Unsharp(), Raw("uint16")) == deep).all()


def test_alpha_stays_and_transparent_colour_does_not_count(bench: Any):
    array = np.zeros((20, 40, 4), "u1")
    array[:, :20], array[:, 20:] = (255, 255, 255, 0), (200, 100, 50, 255)
    shown = bench.show(array, Unsharp())
    assert (shown[..., 3] == array[..., 3]).all()
    assert np.abs(shown[:, 20:, :3] - (200, 100, 50)).max() <= 1


@pytest.mark.parametrize("parameters", [{"radius": 0}, {"percent": -1}, {"threshold": 256}])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Unsharp"):
        Unsharp(**parameters)
