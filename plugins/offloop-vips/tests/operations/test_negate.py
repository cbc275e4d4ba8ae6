"""Negate."""

from __future__ import annotations

from typing import Any

import pytest

from offloop_vips import Negate, Raw


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_white_becomes_black(bench: Any, smooth: Any, bands: int):
    array = smooth(30, 20, bands)
    assert (bench.show(array, Negate()) == 255 - array).all()


def test_alpha_can_stay(bench: Any, smooth: Any):
    array = smooth(30, 20, 4)
    shown = bench.show(array, Negate(alpha=False))
    assert (shown[..., :3] == 255 - array[..., :3]).all()
    assert (shown[..., 3] == array[..., 3]).all()


def test_sixteen_bits_have_their_own_white(bench: Any, smooth: Any):
    deep = smooth(30, 20).astype("u2") * 257 + 1
    deep = deep.clip(0, 65_535).astype("u2")
    assert (bench.show(deep, Negate(), Raw("uint16")) == 65_535 - deep.astype(int)).all()
