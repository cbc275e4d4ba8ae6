"""Gamma."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Gamma, Raw

RAMP = np.arange(256, dtype="u1").reshape(16, 16, 1)


@pytest.mark.parametrize("gamma", [0.5, 2.2])
def test_levels_follow_the_power(bench: Any, gamma: float):
    expected = np.floor(255 * (RAMP / 255) ** (1 / gamma) + 0.5)
    assert (bench.show(RAMP, Gamma(gamma)) == expected).all()


def test_sixteen_bits_follow_it_in_their_own_range(bench: Any):
    deep = np.arange(0, 65_536, 16, dtype="u2").reshape(64, 64, 1)
    expected = np.floor(65_535 * (deep / 65_535) ** (1 / 2.2) + 0.5)
    assert np.abs(bench.show(deep, Gamma(), Raw("uint16")) - expected).max() <= 1


def test_alpha_does_not_change(bench: Any, smooth: Any):
    assert (bench.show(smooth(30, 20, 4), Gamma())[..., 3] == smooth(30, 20, 4)[..., 3]).all()


@pytest.mark.parametrize("gamma", [0, 0.05, 11, 1])
def test_an_invalid_gamma_is_refused(gamma: Any):
    with pytest.raises(InvalidTask, match="Gamma"):
        Gamma(gamma)
