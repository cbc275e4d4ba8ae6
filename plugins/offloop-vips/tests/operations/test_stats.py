"""Statistics of a picture."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from offloop_vips import Stats

NAMES = ("min", "max", "sum", "squares_sum", "mean", "stdev", "min_x", "min_y", "max_x", "max_y")


def test_the_channels_are_those_of_numpy(bench: Any):
    array = np.random.default_rng(1).integers(0, 256, (20, 30, 3)).astype("u1")
    result = bench.run(bench.file(array, ".png"), Stats())
    for band in range(3):
        channel: Any = {name: result.info[name][band] for name in NAMES}
        samples = array[..., band].astype(float)
        assert channel["min"] == samples.min()
        assert channel["max"] == samples.max()
        assert channel["sum"] == samples.sum()
        assert channel["squares_sum"] == (samples**2).sum()
        assert channel["mean"] == pytest.approx(samples.mean())
        assert channel["stdev"] == pytest.approx(samples.std(ddof=1))
        assert samples[channel["min_y"], channel["min_x"]] == samples.min()
        assert samples[channel["max_y"], channel["max_x"]] == samples.max()
    assert json.loads(bytes(result.data))["mean"] == result.info["mean"]
    assert (result.info["media_type"], result.info["width"], result.info["height"]) == ("application/json", 30, 20)


def test_the_dominant_colour_is_the_middle_of_the_fullest_bin(bench: Any):
    array = np.zeros((20, 30, 3), "u1")
    array[:15] = (200, 100, 50)
    assert bench.run(array, Stats()).info["dominant"] == [200, 104, 56]
    assert bench.run(array[..., :1].copy(), Stats()).info["dominant"] == [200, 200, 200]


def test_opacity(bench: Any, smooth: Any):
    assert bench.run(smooth(20, 20), Stats()).info["is_opaque"] is True
    assert bench.run(smooth(20, 20, 4), Stats()).info["is_opaque"] is False
    assert bench.run(np.full((4, 4, 4), 65_535, "u2"), Stats()).info["is_opaque"] is True


def test_entropy_and_sharpness(bench: Any):
    halves = np.zeros((20, 20, 1), "u1")
    halves[:, 10:] = 255
    assert bench.run(halves, Stats()).info["entropy"] == pytest.approx(1)
    assert bench.run(np.zeros((20, 20, 1), "u1"), Stats()).info["sharpness"] == 0
    checks = ((np.mgrid[0:20, 0:20].sum(axis=0) % 2) * 255)[..., None].astype("u1")
    assert bench.run(checks, Stats()).info["sharpness"] > bench.run(halves, Stats()).info["sharpness"] > 0
