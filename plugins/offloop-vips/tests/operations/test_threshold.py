"""Threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Grayscale, Raw, Threshold


def test_a_pixel_at_the_threshold_is_white(bench: Any):
    ramp = np.arange(256, dtype="u1").reshape(16, 16, 1)
    assert (bench.show(ramp, Threshold()) == np.where(ramp >= 128, 255, 0)).all()
    assert (bench.show(ramp, Threshold(1)) == np.where(ramp >= 1, 255, 0)).all()


def test_colours_become_grey_unless_bands_are_compared(bench: Any, smooth: Any):
    grey = bench.show(smooth(30, 20), Grayscale())
    assert (bench.show(smooth(30, 20), Threshold(90)) == np.where(grey >= 90, 255, 0)).all()
    assert (bench.show(smooth(30, 20), Threshold(90, grayscale=False)) == np.where(smooth(30, 20) >= 90, 255, 0)).all()


def test_alpha_does_not_change_and_sixteen_bits_stay(bench: Any, smooth: Any):
    array = smooth(30, 20, 4)
    assert (bench.show(array, Threshold())[..., 1] == array[..., 3]).all()
    deep = bench.show(array.astype("u2") * 257, Threshold(), Raw("uint16"))
    levels: Any = np.unique(deep[..., 0])
    assert levels.tolist() == [0, 65_535]


@pytest.mark.parametrize("threshold", [-1, 256, "1"])
def test_an_invalid_threshold_is_refused(threshold: Any):
    with pytest.raises(InvalidTask, match="Threshold"):
        Threshold(threshold)
