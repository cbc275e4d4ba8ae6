"""Grayscale."""

from __future__ import annotations

from typing import Any

import numpy as np

from offloop_vips import Grayscale


def test_grey_follows_luminance(bench: Any, quarters: Any):
    shown = bench.show(quarters, Grayscale())
    assert shown.shape == (40, 60, 1)
    red, green, blue, white = (int(shown[y, x, 0]) for y, x in ((5, 5), (5, 50), (35, 5), (35, 50)))
    assert 0 < blue < red < green < white == 255


def test_a_grey_picture_does_not_change(bench: Any):
    array = np.arange(256, dtype="u1").reshape(16, 16, 1)
    assert (bench.show(np.repeat(array, 3, axis=2), Grayscale()) == array).all()
    assert (bench.show(array, Grayscale()) == array).all()


def test_alpha_does_not_change(bench: Any):
    array = np.zeros((4, 8, 4), "u1")
    array[:, :, 3] = np.arange(8) * 30
    shown = bench.show(array, Grayscale())
    assert shown.shape == (4, 8, 2)
    assert (shown[:, :, 1] == array[:, :, 3]).all()
