"""Flop."""

from __future__ import annotations

from typing import Any

from offloop_vips import Flop


def test_the_left_column_becomes_the_right_column(bench: Any, smooth: Any):
    array = smooth(30, 20, 4)
    assert (bench.show(bench.file(array, ".png"), Flop()) == array[:, ::-1]).all()


def test_the_orientation_is_applied_first(bench: Any, quarters: Any):
    turned = bench.file(quarters, ".png", orientation=6)
    assert (bench.show(turned, Flop()) == bench.show(turned)[:, ::-1]).all()
