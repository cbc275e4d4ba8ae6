"""WebP encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask, TaskFailed
from offloop_vips import Resize, Webp


def noise(bands: int = 3) -> Any:
    return np.random.default_rng(5).integers(0, 256, (48, 64, bands), "u1")


@pytest.mark.parametrize(("bands", "saved"), [(1, 3), (2, 4), (3, 3), (4, 4)])
def test_the_file_agrees_with_its_info(bench: Any, smooth: Any, bands: int, saved: int):
    result = bench.run(smooth(64, 48, bands), Webp())
    expected = {
        "media_type": "image/webp",
        "format": "webp",
        "width": 64,
        "height": 48,
        "bands": saved,
        "pages": 1,
        "colour_space": "sRGB",
    }
    assert result.info == expected
    assert bench.read(result).shape == (48, 64, saved)


def test_lossless_keeps_every_pixel(bench: Any):
    assert (bench.show(noise(), Webp(lossless=True)) == noise()).all()


def test_every_option_changes_the_file(bench: Any):
    options = (Webp(), Webp(quality=20), Webp(alpha_quality=10), Webp(lossless=True), Webp(near_lossless=True),
               Webp(smart_subsample=True), Webp(effort=0))  # fmt: skip
    assert len({bytes(bench.run(noise(4), option).data) for option in options}) == len(options)


def test_a_side_beyond_the_limit_of_the_format_is_refused(bench: Any):
    with pytest.raises(TaskFailed, match="16384 x 1 pixels do not fit into webp"):
        bench.run(np.zeros((1, 4, 1), "u1"), Resize(16_384, 1, fit="fill"), Webp())


@pytest.mark.parametrize("parameters", [{"quality": 0}, {"alpha_quality": 101}, {"effort": 7}, {"lossless": 1}])
def test_invalid_parameters_are_refused(parameters: dict[str, Any]):
    with pytest.raises(InvalidTask, match="Webp"):
        Webp(**parameters)
