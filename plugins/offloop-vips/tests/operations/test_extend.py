"""Extend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask, TaskFailed
from offloop_vips import Decode, Extend

MODES = {"copy": "edge", "repeat": "wrap", "mirror": "symmetric"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bands", [1, 4])
def test_the_margin_is_that_of_numpy(bench: Any, smooth: Any, mode: Any, bands: int):
    array = smooth(30, 20, bands)
    mode_of_numpy: Any = MODES[mode]
    expected: Any = np.pad(array, ((3, 5), (4, 11), (0, 0)), mode=mode_of_numpy)
    assert (bench.show(bench.file(array, ".png"), Extend(3, 5, 4, 11, extend_with=mode)) == expected).all()


def test_the_background_is_a_colour(bench: Any, smooth: Any):
    shown = bench.show(smooth(30, 20), Extend(left=2, bottom=1, background="#204060"))
    assert (shown[:20, 2:] == smooth(30, 20)).all()
    assert (shown[20] == (32, 64, 96)).all()
    assert (shown[:, :2] == (32, 64, 96)).all()


def test_a_transparent_background_adds_alpha(bench: Any, smooth: Any):
    shown = bench.show(smooth(30, 20, 1), Extend(1, 1, 1, 1, background="#ff000080"))
    assert shown.shape == (22, 32, 4)
    assert tuple(shown[0, 0]) == (255, 0, 0, 128)
    assert (shown[1:-1, 1:-1, 3] == 255).all()


def test_a_canvas_beyond_the_limit_is_refused(bench: Any, smooth: Any):
    with pytest.raises(TaskFailed, match="too_many_pixels"):
        bench.run(bench.file(smooth(10, 10), ".png"), Decode(max_pixels=1000), Extend(left=100, extend_with="mirror"))


@pytest.mark.parametrize(
    "parameters", [{}, {"top": -1}, {"top": 1, "extend_with": "tile"}, {"top": 1, "background": "nix"},
                   {"top": 1, "extend_with": "copy", "background": "red"}],
)  # fmt: skip
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Extend"):
        Extend(**parameters)
