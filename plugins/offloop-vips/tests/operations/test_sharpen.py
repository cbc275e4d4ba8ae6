"""Sharpen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Sharpen


def edge(bands: int = 3) -> Any:
    array = np.full((20, 40, bands), 100, "u1")
    array[:, 20:] = 150
    return array


@pytest.mark.parametrize("sharpen", [Sharpen(), Sharpen(1.0), Sharpen(2, m2=4)])
@pytest.mark.parametrize("bands", [1, 3])
def test_an_edge_gets_steeper_and_flat_areas_do_not_change(bench: Any, sharpen: Sharpen, bands: int):
    shown = bench.show(edge(bands), sharpen)
    assert shown.shape == (20, 40, bands)
    assert shown[10, 19, 0] < 98
    assert shown[10, 20, 0] > 152
    assert abs(int(shown[10, 2, 0]) - 100) <= 1
    assert abs(int(shown[10, 37, 0]) - 150) <= 1


def test_y2_and_y3_limit_brightening_and_darkening(bench: Any):
    unlimited, limited = bench.show(edge(), Sharpen(2.0)), bench.show(edge(), Sharpen(2.0, y2=1, y3=1))
    assert unlimited[10, 20, 0] > limited[10, 20, 0] > 150
    assert unlimited[10, 19, 0] < limited[10, 19, 0] < 100


def test_alpha_and_transparent_colours_cause_no_artefacts(bench: Any):
    array = np.zeros((20, 40, 4), "u1")
    array[:, 20:] = (200, 200, 200, 255)
    shown = bench.show(array, Sharpen())
    assert (shown[:, 24:] == (200, 200, 200, 255)).all()
    assert shown[10, 5, 3] == 0


@pytest.mark.parametrize(
    "parameters",
    [{"sigma": 0}, {"sigma": 10.1}, {"sigma": float("nan")}, {"sigma": 1, "m1": -1}, {"sigma": 1, "y3": 1e7}, {"m2": 3}],
)
def test_invalid_parameters_are_refused(parameters: dict[str, Any]):
    with pytest.raises(InvalidTask, match="Sharpen"):
        Sharpen(**parameters)
