"""CLAHE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Clahe, Decode, Raw


def dull(bands: int = 1) -> Any:
    y, x = np.mgrid[0:60, 0:80]
    return (60 + x + 6 * ((x // 4 + y // 4) % 2))[..., None].repeat(bands, 2).astype("u1")


@pytest.mark.parametrize("bands", [1, 3])
def test_local_contrast_grows(bench: Any, bands: int):
    before, after = dull(bands).astype(int), bench.show(dull(bands), Clahe(20, 20)).astype(int)
    assert after.shape == before.shape
    assert np.abs(np.diff(after[30, 20:60, 0])).mean() > 1.5 * np.abs(np.diff(before[30, 20:60, 0])).mean()


def test_the_slope_limits_the_contrast(bench: Any):
    low, high = (np.abs(np.diff(bench.show(dull(), Clahe(20, 20, slope))[30, 20:60, 0].astype(int))).mean() for slope in (1, 8))
    assert low < high


def test_colours_keep_their_hue_and_alpha_its_value(bench: Any):
    array = np.concatenate([dull(3) * (1, 0.8, 0.6), np.full((60, 80, 1), 99)], 2).astype("u1")
    shown = bench.show(array, Clahe(20, 20)).astype(int)
    assert (shown[..., 3] == 99).all()
    assert (shown[20:40, 20:60, 0] > shown[20:40, 20:60, 2]).all()


def test_an_area_is_cut_at_the_edge_of_a_page(bench: Any):
    frames = [dull(3), np.full((60, 80, 3), 250, "u1")]
    shown = bench.show(bench.animation(frames, ".webp", [50, 60]), Decode(pages=2), Clahe(500, 500), Raw())
    assert np.abs(shown[:60] - bench.show(dull(3), Clahe(500, 500)).astype(int)).max() <= 3


@pytest.mark.parametrize("parameters", [(0, 3), (3, 0), (3, 3, 101), (3, 3, -1)])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Clahe"):
        Clahe(*parameters)
