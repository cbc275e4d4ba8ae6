"""Normalise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Normalise, Raw


def dull(bands: int = 1) -> Any:
    return np.repeat(np.linspace(90, 150, 60).round().astype("u1")[None, :, None], 40, 0).repeat(bands, 2)


@pytest.mark.parametrize("bands", [1, 3])
def test_lightness_is_stretched_to_the_full_range(bench: Any, bands: int):
    shown = bench.show(dull(bands), Normalise(0, 100))
    assert (shown.min(), shown.max()) == (0, 255)
    assert (np.diff(shown[5, :, 0].astype(int)) >= 0).all()


def test_the_percentiles_leave_out_outliers(bench: Any):
    array = dull()
    array[0, :5], array[1, :5] = 0, 255
    assert np.abs(bench.show(array, Normalise(0, 100)).astype(int) - array).max() <= 1
    shown = bench.show(array, Normalise(1, 99))
    assert shown[20, 1, 0] < 8
    assert shown[20, -2, 0] > 247


def test_invisible_pixels_do_not_count(bench: Any):
    array = np.concatenate([dull(3), np.full((40, 60, 1), 255, "u1")], 2)
    array[:, :30] = (0, 0, 0, 0)
    expected = bench.show(dull(3)[:, 30:].copy(), Normalise())
    assert np.abs(bench.show(array, Normalise())[:, 30:, :3].astype(int) - expected).max() <= 1


def test_sixteen_bits_stay_fine(bench: Any):
    deep = np.linspace(23_000, 38_000, 4000).astype("u2").reshape(50, 80, 1)
    shown = bench.show(deep, Normalise(0, 100), Raw("uint16"))
    assert len(np.unique(shown)) > 3000
    assert shown.max() > 65_000


def test_hue_does_not_change(bench: Any):
    array = np.zeros((20, 40, 3), "u1")
    array[:, :20], array[:, 20:] = (60, 50, 45), (150, 120, 105)
    red, green, blue = bench.show(array, Normalise(0, 100))[5, 30].astype(int)
    assert red >= green >= blue


def test_a_flat_picture_stays(bench: Any):
    assert (bench.show(np.full((9, 9, 3), 77, "u1"), Normalise()) == 77).all()


@pytest.mark.parametrize("parameters", [(5, 5), (60, 40), (-1, 99), (1, 101), (0.5, 99)])
def test_invalid_percentiles_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Normalise"):
        Normalise(*parameters)
