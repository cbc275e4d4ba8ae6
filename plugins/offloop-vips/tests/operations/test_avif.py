"""AVIF encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask
from offloop_vips import Avif


@pytest.mark.parametrize(("bands", "saved"), [(1, 3), (2, 4), (3, 3), (4, 4)])
def test_the_file_agrees_with_its_info(bench: Any, smooth: Any, bands: int, saved: int):
    result = bench.run(smooth(64, 48, bands), Avif(effort=0))
    expected = {
        "media_type": "image/avif",
        "format": "avif",
        "width": 64,
        "height": 48,
        "bands": saved,
        "pages": 1,
        "colour_space": "sRGB",
    }
    assert result.info == expected
    shown = bench.read(result)
    assert shown.shape == (48, 64, saved)
    if bands == 3:
        assert np.abs(shown.astype(int) - smooth(64, 48)).max() < 25


def test_lossless_keeps_every_pixel(bench: Any):
    noise = np.random.default_rng(6).integers(0, 256, (48, 64, 3), "u1")
    assert (bench.show(noise, Avif(lossless=True, effort=0)) == noise).all()


def test_every_option_changes_the_file(bench: Any):
    noise = np.random.default_rng(6).integers(0, 256, (48, 64, 3), "u1")
    options = (Avif(effort=0), Avif(effort=2), Avif(effort=0, quality=20), Avif(effort=0, lossless=True),
               Avif(effort=0, chroma_subsampling="4:2:0"), Avif(effort=0, bitdepth=10))  # fmt: skip
    assert len({bytes(bench.run(noise, option).data) for option in options}) == len(options)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_the_file_has_the_requested_bit_depth(bench: Any, smooth: Any, bits: Any):
    data = bytes(bench.run(smooth(64, 48), Avif(effort=0, bitdepth=bits)).data)
    assert pyvips.Image.new_from_buffer(data, "").get("bits-per-sample") == bits


@pytest.mark.parametrize(
    "parameters", [{"quality": 0}, {"effort": 10}, {"bitdepth": 9}, {"lossless": True, "chroma_subsampling": "4:2:0"}]
)
def test_invalid_parameters_are_refused(parameters: dict[str, Any]):
    with pytest.raises(InvalidTask, match="Avif"):
        Avif(**parameters)
