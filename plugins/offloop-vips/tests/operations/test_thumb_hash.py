"""ThumbHash."""

from __future__ import annotations

from base64 import b64decode
from typing import Any

import numpy as np
import pytest

from offloop_vips import ThumbHash


def picture(bands: int) -> Any:
    y, x = np.mgrid[0:16, 0:24]
    return np.stack([x * 10, y * 15, (x * 7 + y * 11) % 256, np.minimum(255, x * 12)], -1).astype("u1")[..., :bands]


def nibbles(text: str) -> Any:
    data = np.frombuffer(b64decode(text), "u1").astype(int)
    return np.stack([data & 15, data >> 4])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (picture(4), "oleGI4w4spiAe6TU8D37dHB3eIiHiHc="),
        (picture(3), "XgcKLZhgd3dQeYeWd3h3d8LzDfeI"),
        (picture(4).transpose(1, 0, 2), "oleGIww4QIK6i5fQ9P04tHh4gHiHeHg="),
    ],
)
def test_it_is_the_hash_of_the_reference_in_javascript(bench: Any, array: Any, expected: str):
    text = bench.run(array, ThumbHash()).info["thumbhash"]
    assert nibbles(text).shape == nibbles(expected).shape
    difference = np.abs(nibbles(text) - nibbles(expected))  # one number in sixteen levels may be rounded otherwise
    assert difference.max() <= 8
    assert (difference > 0).sum() <= 1


def test_grey_and_transparent_pictures_have_a_hash(bench: Any, smooth: Any):
    assert len(b64decode(bench.run(smooth(30, 20, 1), ThumbHash()).info["thumbhash"])) > 10
    assert len(b64decode(bench.run(np.zeros((3, 300, 4), "u1"), ThumbHash()).info["thumbhash"])) > 10
