"""Linear."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Linear, Raw


def test_levels_are_multiplied_and_shifted_and_clipped(bench: Any, smooth: Any):
    array = smooth(30, 20).astype(float)
    assert (bench.show(smooth(30, 20), Linear(1.5, -20)) == np.rint((array * 1.5 - 20).clip(0, 255))).all()


def test_each_band_has_its_own_numbers(bench: Any):
    array = np.full((4, 4, 3), 100, "u1")
    assert tuple(bench.show(array, Linear((0.5, 1, 2), (1, 2, 3)))[0, 0]) == (51, 102, 203)
    assert tuple(bench.show(array, Linear(1, (1, 2, 3)))[0, 0]) == (101, 102, 103)
    assert tuple(bench.show(array[:, :, :1].copy(), Linear((0.5, 1, 2)))[0, 0]) == (50, 100, 200)


def test_alpha_changes_only_by_a_number_of_its_own(bench: Any):
    array = np.full((4, 4, 4), 100, "u1")
    assert tuple(bench.show(array, Linear(2))[0, 0]) == (200, 200, 200, 100)
    assert tuple(bench.show(array, Linear((1, 1, 1, 0.5)))[0, 0]) == (100, 100, 100, 50)


def test_a_summand_is_a_level_of_255_for_sixteen_bits(bench: Any):
    assert (bench.show(np.full((4, 4, 3), 10_000, "u2"), Linear(2, 10), Raw("uint16")) == 22_570).all()


def test_too_many_numbers_for_the_picture_are_refused(bench: Any):
    with pytest.raises(InvalidTask, match=r"Linear.*4 numbers for a picture of 3 bands"):
        bench.run(np.zeros((4, 4, 3), "u1"), Linear((1, 1, 1, 1)))


@pytest.mark.parametrize("parameters", [{"a": ()}, {"a": (1, 2), "b": (1, 2, 3)}, {"a": (1,) * 5}, {"b": float("nan")}])
def test_invalid_numbers_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Linear"):
        Linear(**parameters)
