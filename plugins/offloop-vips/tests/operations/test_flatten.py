"""Flatten."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Blur, Flatten, Raw


def test_the_background_shows_through(bench: Any):
    array = np.tile(np.array((200, 100, 50, 64), "u1"), (4, 4, 1))
    shown = bench.show(array, Flatten("#204060"))
    assert shown.shape == (4, 4, 3)
    assert shown[0, 0] == pytest.approx([200 * 64 / 255 + 32 * 191 / 255, 100 * 64 / 255 + 64 * 191 / 255,
                                         50 * 64 / 255 + 96 * 191 / 255], abs=0.51)  # fmt: skip


def test_a_picture_without_alpha_stays(bench: Any, smooth: Any):
    assert (bench.show(smooth(30, 20), Flatten("red")) == smooth(30, 20)).all()


def test_grey_becomes_coloured_by_a_coloured_background(bench: Any, smooth: Any):
    assert bench.show(smooth(30, 20, 2), Flatten("red")).shape == (20, 30, 3)
    assert bench.show(smooth(30, 20, 2), Flatten("white")).shape == (20, 30, 1)


def test_sixteen_bits_and_steps_before_it(bench: Any):
    array = np.tile(np.array((50_000, 25_000, 12_000, 0), "u2"), (9, 9, 1))
    assert (bench.show(array, Blur(), Flatten("#fff"), Raw("uint16")) == 65_535).all()


def test_a_transparent_background_is_refused():
    with pytest.raises(InvalidTask, match=r"Flatten.*opaque"):
        Flatten("transparent")
