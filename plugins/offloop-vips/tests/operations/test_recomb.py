"""Recomb."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Raw, Recomb

SEPIA = ((0.3588, 0.7044, 0.1368), (0.2990, 0.5870, 0.1140), (0.2392, 0.4696, 0.0912))


def test_colours_are_multiplied_by_the_matrix(bench: Any, smooth: Any):
    array = smooth(30, 20)
    expected = np.floor((array @ np.array(SEPIA).T).clip(0, 255) + 0.5).clip(0, 255)
    assert np.abs(bench.show(array, Recomb(SEPIA)) - expected).max() <= 1


def test_three_rows_leave_alpha_as_it_is(bench: Any, smooth: Any):
    assert (bench.show(smooth(30, 20, 4), Recomb(SEPIA))[..., 3] == smooth(30, 20, 4)[..., 3]).all()


def test_four_rows_can_swap_alpha(bench: Any, smooth: Any):
    swap = ((0, 0, 0, 1), (0, 1, 0, 0), (0, 0, 1, 0), (1, 0, 0, 0))
    assert (bench.show(smooth(30, 20, 4), Recomb(swap)) == smooth(30, 20, 4)[..., [3, 1, 2, 0]]).all()
    assert (bench.show(smooth(30, 20, 3), Recomb(swap))[..., 0] == 255).all()


def test_grey_and_sixteen_bits(bench: Any):
    shown = bench.show(np.full((4, 4, 1), 20_000, "u2"), Recomb(SEPIA), Raw("uint16"))
    assert shown[0, 0] == pytest.approx([24_000, 20_000, 16_000], abs=2)


@pytest.mark.parametrize("matrix", [(), ((1,),), ((1, 2, 3),) * 2, ((1, 2, 3), (1, 2), (1, 2, 3)), ((1, 2, 3, 4),) * 3])
def test_an_invalid_matrix_is_refused(matrix: Any):
    with pytest.raises(InvalidTask, match="Recomb"):
        Recomb(matrix)
