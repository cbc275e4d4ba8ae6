"""TIFF encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask
from offloop_vips import Decode, Tiff


@pytest.mark.parametrize("compression", ["none", "deflate", "packbits", "lzw"])
@pytest.mark.parametrize("bands", [1, 4])
def test_samples_are_kept(bench: Any, smooth: Any, compression: Any, bands: int):
    result = bench.run(smooth(70, 50, bands), Tiff(compression=compression))
    assert (bench.read(result) == smooth(70, 50, bands)).all()
    assert (result.info["media_type"], result.info["format"], result.info["bands"]) == ("image/tiff", "tiff", bands)


@pytest.mark.parametrize("compression", ["jpeg", "webp"])
def test_a_lossy_compression_keeps_the_picture(bench: Any, smooth: Any, compression: Any):
    result = bench.run(smooth(70, 50), Tiff(compression=compression))
    assert np.abs(bench.read(result) - smooth(70, 50)).max() < 20


def test_jpeg_drops_alpha(bench: Any, smooth: Any):
    assert bench.run(smooth(70, 50, 4), Tiff()).info["bands"] == 3


def test_sixteen_bits_are_kept(bench: Any):
    array = np.random.default_rng(1).integers(0, 65_536, (20, 30, 3)).astype("u2")
    assert (bench.show(array, Tiff(compression="deflate", bitdepth=16)) == array).all()


def test_pages_are_kept(bench: Any):
    frames = [np.full((20, 30, 3), level, "u1") for level in (10, 100, 200)]
    result = bench.run(bench.animation(frames, ".gif", [50, 60, 70]), Decode(pages=-1), Tiff(compression="lzw"))
    made = pyvips.Image.new_from_buffer(bytes(result.data), "", n=-1)
    assert (made.get("n-pages"), made.height, result.info["pages"]) == (3, 60, 3)
    assert np.abs(made.numpy()[::20, 0, 0].astype(int) - [10, 100, 200]).max() <= 2


def test_tiles_and_pyramid(bench: Any, smooth: Any):
    result = bench.run(smooth(300, 200), Tiff(compression="deflate", tile=True, tile_width=64, tile_height=64, pyramid=True))
    made: Any = pyvips.Image.new_from_buffer(bytes(result.data), "")
    assert made.get("n-pages") > 1
    assert (made.numpy() == smooth(300, 200)).all()


@pytest.mark.parametrize(
    "parameters",
    [{"bitdepth": 16}, {"pyramid": True}, {"tile_width": 128}, {"tile": True, "tile_width": 100}, {"quality": 0},
     {"compression": "ccitt"}],
)  # fmt: skip
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Tiff"):
        Tiff(**parameters)
