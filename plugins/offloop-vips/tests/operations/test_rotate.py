"""Rotate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask, TaskFailed
from offloop_vips import Decode, Raw, Rotate


@pytest.mark.parametrize("angle", [0, 90, 180, 270, 360, -90, -450, 810])
def test_multiples_of_90_are_clockwise_and_exact(bench: Any, quarters: Any, angle: int):
    expected = np.rot90(quarters, -angle // 90)
    assert (bench.show(quarters, Rotate(angle)) == expected).all()
    assert (bench.show(bench.file(quarters, ".png"), Rotate(angle), Raw()) == expected).all()


def test_other_angles_enlarge_the_canvas_and_fill_the_corners(bench: Any):
    array = np.full((40, 60, 3), 200, "u1")
    shown = bench.show(array, Rotate(45, background="rgb(10, 20, 30)"))
    assert shown.shape[0] == pytest.approx(100 / np.sqrt(2), abs=1)
    assert shown.shape[1] == pytest.approx(100 / np.sqrt(2), abs=1)
    assert tuple(shown[0, 0]) == tuple(shown[-1, -1]) == (10, 20, 30)
    assert tuple(shown[35, 35]) == (200, 200, 200)


def test_a_small_angle_turns_clockwise(bench: Any):
    array = np.zeros((101, 101, 1), "u1")
    array[10, 50] = array[11, 50] = array[10, 51] = array[11, 51] = 255
    shown = bench.show(array, Rotate(30))[:, :, 0]
    x = int(shown.argmax()) % shown.shape[1]
    assert x > shown.shape[1] // 2 + 10


def test_a_transparent_background_makes_transparent_corners(bench: Any):
    shown = bench.show(np.full((40, 60, 3), 200, "u1"), Rotate(45, background="transparent"))
    assert shown[0, 0, 3] == 0
    assert tuple(shown[35, 35]) == (200, 200, 200, 255)


def test_a_half_transparent_background_keeps_its_colour(bench: Any):
    shown = bench.show(np.full((40, 60, 4), 255, "u1"), Rotate(45, background=(200, 100, 50, 0.5)))
    assert shown[0, 0] == pytest.approx([200, 100, 50, 128], abs=2)


def test_the_larger_canvas_counts_against_the_limit(bench: Any, quarters: Any):
    source = bench.file(quarters, ".png")
    assert bench.show(source, Decode(max_pixels=2400), Rotate(90), Raw()).shape == (60, 40, 3)
    with pytest.raises(TaskFailed) as failure:
        bench.run(source, Decode(max_pixels=2400), Rotate(45))
    assert failure.value.code == "too_many_pixels"


@pytest.mark.parametrize("angle", [float("nan"), float("inf"), 36_001, "90", None])
def test_an_invalid_angle_is_refused(angle: Any):
    with pytest.raises(InvalidTask, match=r"Rotate.*angle"):
        Rotate(angle)
