"""Flip."""

from __future__ import annotations

from typing import Any

import numpy as np

from offloop_vips import Decode, Flip, Raw


def test_the_top_row_becomes_the_bottom_row(bench: Any, smooth: Any):
    array = smooth(30, 20, 4)
    assert (bench.show(bench.file(array, ".png"), Flip()) == array[::-1]).all()


def test_each_page_is_flipped(bench: Any):
    frames = [np.full((20, 30, 3), level, "u1") for level in (10, 200)]
    frames[0][:10] = 100
    shown = bench.show(bench.animation(frames, ".webp", [50, 60]), Decode(pages=2), Flip(), Raw())
    assert np.abs(shown.astype(int) - np.concatenate([frames[0][::-1], frames[1]])).max() <= 3
