"""Extract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask, TaskFailed
from offloop_vips import Decode, Extract, Png, Raw, Rotate


def test_the_rectangle_is_kept(bench: Any, smooth: Any):
    array = smooth(30, 20)
    assert (bench.show(array, Extract(5, 3, 11, 7)) == array[3:10, 5:16]).all()
    assert (bench.show(array, Extract(0, 0, 30, 20)) == array).all()


def test_it_is_upright_pixels_that_count(bench: Any, quarters: Any):
    shown = bench.show(bench.file(quarters, ".png"), Rotate(90), Extract(0, 0, 20, 30))
    assert (shown == (0, 0, 255)).all()


def test_each_page_is_cut(bench: Any):
    frames = [np.full((20, 30, 3), level, "u1") for level in (10, 200)]
    for frame in frames:
        frame[:, :10] = 77
    shown = bench.show(bench.animation(frames, ".webp", [50, 60]), Decode(pages=2), Extract(10, 5, 20, 4), Raw())[..., :3]
    assert shown.shape == (8, 20, 3)
    assert np.abs(shown[:4].astype(int) - 10).max() <= 2
    assert np.abs(shown[4:].astype(int) - 200).max() <= 2


def test_damage_below_the_rectangle_is_noticed(bench: Any, smooth: Any):
    source = bench.file(smooth(300, 300), ".png", compression=0)
    with pytest.raises(TaskFailed) as failure:
        bench.run(source[: len(source) * 3 // 4], Extract(0, 0, 300, 20), Png())
    assert failure.value.code == "corrupt_source"


@pytest.mark.parametrize("extract", [Extract(20, 0, 11, 5), Extract(0, 16, 1, 5), Extract(99, 0, 1, 1)])
def test_a_rectangle_beyond_the_picture_is_refused(bench: Any, smooth: Any, extract: Extract):
    with pytest.raises(InvalidTask, match=r"Extract.*beyond the picture of 30 x 20"):
        bench.run(smooth(30, 20), extract)


@pytest.mark.parametrize("numbers", [(-1, 0, 1, 1), (0, 0, 0, 1), (0, 0, 1, 0.5), (0, 0, 10**9, 1)])
def test_invalid_parameters_are_refused(numbers: Any):
    with pytest.raises(InvalidTask, match="Extract"):
        Extract(*numbers)
