"""Remove alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop_vips import Blur, RemoveAlpha


@pytest.mark.parametrize("bands", [2, 4])
def test_colours_stay_as_they_are(bench: Any, smooth: Any, bands: int):
    array = smooth(30, 20, bands)
    assert (bench.show(array, RemoveAlpha()) == array[..., :-1]).all()


def test_an_opaque_picture_stays(bench: Any, smooth: Any):
    assert (bench.show(smooth(30, 20), RemoveAlpha()) == smooth(30, 20)).all()


def test_colours_are_straight_after_a_step_that_premultiplied_them(bench: Any):
    array = np.tile(np.array((200, 100, 50, 9), "u1"), (9, 9, 1))
    assert (bench.show(array, Blur(), RemoveAlpha()) == (200, 100, 50)).all()
