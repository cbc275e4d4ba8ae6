"""Ensure alpha."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.errors import InvalidTask
from offloop_vips import EnsureAlpha, Raw


@pytest.mark.parametrize("bands", [1, 3])
def test_alpha_is_added(bench: Any, smooth: Any, bands: int):
    array = smooth(30, 20, bands)
    shown = bench.show(array, EnsureAlpha(0.5))
    assert (shown[..., :-1] == array).all()
    assert (shown[..., -1] == 128).all()
    assert (bench.show(array.astype("u2"), EnsureAlpha(), Raw("uint16"))[..., -1] == 65_535).all()


def test_the_alpha_of_a_picture_stays(bench: Any, smooth: Any):
    assert (bench.show(smooth(30, 20, 4), EnsureAlpha(0)) == smooth(30, 20, 4)).all()


@pytest.mark.parametrize("alpha", [-0.1, 1.1, "1"])
def test_an_invalid_alpha_is_refused(alpha: Any):
    with pytest.raises(InvalidTask, match="EnsureAlpha"):
        EnsureAlpha(alpha)
