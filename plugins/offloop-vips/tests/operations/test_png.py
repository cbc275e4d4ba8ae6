"""PNG encoder."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask
from offloop_vips import Png


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_every_pixel_is_kept(bench: Any, bands: int):
    array = np.random.default_rng(4).integers(0, 256, (30, 40, bands), "u1")
    result = bench.run(array, Png())
    assert (bench.read(result) == array).all()
    assert result.info == {
        "media_type": "image/png",
        "format": "png",
        "width": 40,
        "height": 30,
        "bands": bands,
        "pages": 1,
        "colour_space": "sRGB",
    }


def test_every_option_changes_the_file(bench: Any, smooth: Any):
    array = smooth(300, 200)
    options = (
        Png(), Png(compression_level=0), Png(progressive=True), Png(adaptive_filtering=True), Png(palette=True),
        Png(palette=True, effort=1), Png(palette=True, colours=16), Png(palette=True, dither=0),
    )  # fmt: skip
    assert len({bytes(bench.run(array, option).data) for option in options}) == len(options)


@pytest.mark.parametrize(("colours", "bits"), [(2, 1), (3, 2), (16, 4), (17, 8), (256, 8)])
def test_the_palette_size_is_rounded_up_to_a_bit_depth(bench: Any, smooth: Any, colours: int, bits: int):
    data = bytes(bench.run(smooth(100, 80), Png(palette=True, colours=colours)).data)
    depth, kind = struct.unpack(">8xBB", data[16:26])
    assert (depth, kind) == (bits, 3)
    pixels = pyvips.Image.new_from_buffer(data, "").numpy().reshape(-1, 3)
    assert 1 < len(np.unique(pixels, axis=0)) <= 1 << bits


def test_a_palette_keeps_alpha(bench: Any):
    array = np.zeros((10, 10, 4), "u1")
    array[:, 5:] = (10, 200, 30, 255)
    shown = bench.show(array, Png(palette=True))
    assert shown[5, 2, 3] == 0
    assert shown[5, 7] == pytest.approx([10, 200, 30, 255], abs=3)


@pytest.mark.parametrize(
    "parameters",
    [{"compression_level": 10}, {"colours": 16}, {"dither": 0.5}, {"effort": 3}, {"palette": True, "colours": 1},
     {"palette": True, "effort": 11}, {"palette": True, "dither": 1.1}],
)  # fmt: skip
def test_invalid_parameters_are_refused(parameters: dict[str, Any]):
    with pytest.raises(InvalidTask, match="Png"):
        Png(**parameters)
