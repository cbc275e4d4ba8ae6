"""Modulate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Grayscale, Modulate


def flat(colour: Any) -> Any:
    return np.tile(np.array(colour, "u1"), (8, 8, 1))


def test_brightness_multiplies_and_lightness_adds(bench: Any):
    grey = flat((119, 119, 119))  # lightness 50
    assert bench.show(grey, Modulate(brightness=1.5))[0, 0] == pytest.approx([185] * 3, abs=1)  # lightness 75
    assert bench.show(grey, Modulate(lightness=25))[0, 0] == pytest.approx([185] * 3, abs=1)
    assert (bench.show(grey, Modulate(brightness=0)) == 0).all()


def test_no_saturation_is_grey(bench: Any, smooth: Any):
    shown = bench.show(smooth(30, 20), Modulate(saturation=0)).astype(int)
    assert (shown.max(axis=2) - shown.min(axis=2)).max() <= 2


def test_the_hue_turns(bench: Any):
    reddish = flat((150, 100, 100))
    red, green, blue = bench.show(reddish, Modulate(hue=120))[0, 0].astype(int)
    assert green > red
    assert green > blue
    back = bench.show(bench.show(reddish, Modulate(hue=120)).astype("u1"), Modulate(hue=-120))
    assert back[0, 0] == pytest.approx([150, 100, 100], abs=2)


def test_alpha_and_the_number_of_bands_stay(bench: Any, smooth: Any):
    assert (bench.show(smooth(30, 20, 4), Modulate(hue=90))[..., 3] == smooth(30, 20, 4)[..., 3]).all()
    assert bench.show(smooth(30, 20, 1), Modulate(brightness=2)).shape == (20, 30, 1)
    assert bench.show(smooth(30, 20, 4), Grayscale(), Modulate(brightness=2)).shape == (20, 30, 2)


@pytest.mark.parametrize("parameters", [{}, {"hue": 360}, {"brightness": -1}, {"saturation": "1"}, {"lightness": 101}])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Modulate"):
        Modulate(**parameters)
