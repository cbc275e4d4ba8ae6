"""Automatic choice of the encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Auto, Avif, Decode, Gif, Jpeg, Png, Webp

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SAFARI_13 = "image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5"


@pytest.mark.parametrize(
    ("accept", "has_alpha", "pages", "expected"),
    [
        (CHROME, False, 1, Avif()),
        (CHROME, True, 1, Avif()),
        (CHROME, False, 3, Webp()),
        ("image/webp,*/*", True, 1, Webp()),
        (SAFARI_13, False, 1, Jpeg()),
        (SAFARI_13, True, 1, Png()),
        (SAFARI_13, False, 3, Gif()),
        ("*/*", False, 1, Jpeg()),
        ("", True, 1, Png()),
        ("IMAGE/AVIF;q=0, image/webp;q=0.5", False, 1, Webp()),
        ("text/html;;;,,,;q=", False, 1, Jpeg()),
    ],
)
def test_the_best_format_that_is_accepted_and_holds_the_picture_is_made(
    accept: str, has_alpha: bool, pages: int, expected: Any
):
    assert Auto(accept).resolve(has_alpha=has_alpha, pages=pages) == expected


def test_formats_and_quality_can_be_chosen():
    assert Auto(CHROME, formats=("jpeg", "webp"), quality=33).resolve(has_alpha=False, pages=1) == Jpeg(quality=33)
    assert Auto(CHROME, formats=("jpeg", "webp"), quality=33).resolve(has_alpha=True, pages=1) == Webp(quality=33)
    assert Auto("*/*", formats=("webp",), quality=33).resolve(has_alpha=True, pages=1) == Png()


def test_the_info_tells_the_format(bench: Any, smooth: Any):
    assert bench.run(smooth(30, 20), Auto("image/webp")).info["media_type"] == "image/webp"
    assert bench.run(smooth(30, 20, 4), Auto()).info["media_type"] == "image/png"
    frames = [np.full((20, 30, 3), level, "u1") for level in (10, 200)]
    assert bench.run(bench.animation(frames, ".gif", [50, 60]), Decode(pages=-1), Auto()).info["media_type"] == "image/gif"


@pytest.mark.parametrize("parameters", [{"accept": "a" * 5000}, {"formats": ()}, {"formats": ("bmp",)}, {"quality": 0}])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Auto"):
        Auto(**parameters)
