"""Affine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Affine


def test_a_quarter_turn_is_exact(bench: Any, smooth: Any):
    array = smooth(30, 20)
    shown = bench.show(array, Affine((0, -1, 1, 0), interpolator="nearest"))
    assert (shown == np.rot90(array, -1)).all()


@pytest.mark.parametrize("interpolator", ["nearest", "bilinear", "bicubic", "lbb", "nohalo", "vsqbs"])
def test_an_enlargement_keeps_a_gradient(bench: Any, interpolator: Any):
    gradient = np.tile(np.arange(0, 240, 8, dtype="u1")[:, None], (1, 30))[:, :, None]
    shown = bench.show(gradient, Affine((2, 0, 0, 2), interpolator=interpolator)).astype(int)[..., 0]
    assert shown.shape == (60, 60)
    assert np.abs(np.diff(shown[8:-8, 30])).max() <= (8 if interpolator == "nearest" else 5)


def test_a_shear_has_a_background(bench: Any):
    white = np.full((20, 20, 3), 255, "u1")
    shown = bench.show(white, Affine((1, 0.5, 0, 1), background="#204060"))
    assert shown.shape[:2] == (20, 30)
    assert tuple(shown[1, 28]) == (32, 64, 96)
    assert tuple(shown[10, 15]) == (255, 255, 255)


def test_transparent_colour_does_not_bleed(bench: Any):
    array = np.zeros((40, 40, 4), "u1")
    array[:, :20], array[:, 20:] = (0, 255, 0, 0), (255, 0, 0, 255)
    shown = bench.show(array, Affine((1.3, 0.2, -0.2, 1.3), background="#0000"))
    visible = shown[shown[:, :, 3] > 20]
    assert visible[:, 1].max() < 10


@pytest.mark.parametrize("matrix", [(1, 1, 1, 1), (0, 0, 0, 0), (1, 2, 3), (1, 0, 0, 1e9), (1, 0, 0, float("nan"))])
def test_an_invalid_matrix_is_refused(matrix: Any):
    with pytest.raises(InvalidTask, match="Affine"):
        Affine(matrix)
