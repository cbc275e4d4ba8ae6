"""Tint."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Grayscale, Tint

RAMP = np.arange(256, dtype="u1").reshape(16, 16, 1)


@pytest.mark.parametrize("color", ["#b08040", "rgb(40, 120, 90)", (90, 70, 160)])
def test_lightness_does_not_change(bench: Any, color: Any):
    shown = bench.show(np.repeat(RAMP, 3, axis=2), Tint(color))
    grey = bench.show(shown.astype("u1"), Grayscale()).astype(int)
    assert np.abs(grey - RAMP).max() <= 6


def test_middle_greys_get_the_hue_and_black_and_white_do_not(bench: Any):
    shown = bench.show(np.repeat(RAMP, 3, axis=2), Tint("orange")).reshape(256, 3).astype(int)
    assert tuple(shown[0]) == pytest.approx((0, 0, 0), abs=2)
    assert tuple(shown[255]) == pytest.approx((255, 255, 255), abs=2)
    red, green, blue = shown[120]
    assert red > green + 20 > blue + 60


def test_a_grey_tint_removes_the_colour(bench: Any, quarters: Any):
    shown = bench.show(quarters, Tint("#808080")).astype(int)
    assert np.abs(shown - bench.show(quarters, Grayscale())).max() <= 2


@pytest.mark.parametrize("bands", [2, 4])
def test_alpha_does_not_change(bench: Any, bands: int):
    array = np.full((4, 8, bands), 120, "u1")
    array[:, :, -1] = np.arange(8) * 30
    shown = bench.show(array, Tint("teal"))
    assert shown.shape == (4, 8, 4)
    assert (shown[:, :, 3] == array[:, :, -1]).all()
    assert shown[0, 0, 1] > shown[0, 0, 0]


def test_a_transparent_tint_is_refused():
    with pytest.raises(InvalidTask, match=r"Tint.*opaque"):
        Tint("rgb(255 0 0 / 50%)")
