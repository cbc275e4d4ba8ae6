"""GIF encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask
from offloop_vips import Decode, Gif, Resize


def frames(*levels: int) -> list[Any]:
    return [np.full((20, 30, 3), level, "u1") for level in levels]


def test_the_file_agrees_with_its_info(bench: Any, quarters: Any):
    result = bench.run(quarters, Gif())
    assert bytes(result.data[:4]) == b"GIF8"
    assert result.info == {
        "media_type": "image/gif",
        "format": "gif",
        "width": 60,
        "height": 40,
        "bands": 3,
        "pages": 1,
        "colour_space": "sRGB",
    }
    assert (bench.read(result)[..., :3] == quarters).all()


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_keeps_frames_durations_and_loops(bench: Any, suffix: str):
    source = bench.animation(frames(10, 100, 200), suffix, [50, 120, 70])
    result = bench.run(source, Decode(pages=-1), Resize(15), Gif())
    made = pyvips.Image.new_from_buffer(bytes(result.data), "", n=-1)
    assert (result.info["pages"], result.info["durations_ms"], result.info["loop"]) == (3, [50, 120, 70], 3)
    assert (made.get("n-pages"), made.get("delay"), made.get("loop")) == (3, [50, 120, 70], 3)
    assert (made.width, made.get("page-height")) == (15, 10)


def test_equal_frames_are_merged_unless_they_are_to_be_kept(bench: Any):
    source = bench.animation(frames(10, 10, 200), ".gif", [50, 120, 70])
    # the encoder of the source merges them, too
    raster = np.concatenate(frames(10, 200, 200))
    assert bench.run(source, Decode(pages=-1), Gif()).info["pages"] == 2
    assert raster.shape == (60, 30, 3)


def test_alpha_is_full_or_none(bench: Any):
    array = np.full((20, 30, 4), 200, "u1")
    array[:, :10, 3], array[:, 10:, 3] = 0, 255
    shown: Any = np.unique(bench.show(array, Gif())[..., 3])
    assert shown.tolist() == [0, 255]


def test_every_option_changes_the_file(bench: Any, smooth: Any):
    options = (Gif(), Gif(colours=8), Gif(dither=0), Gif(progressive=True), Gif(effort=1))
    assert len({bytes(bench.run(smooth(90, 60), option).data) for option in options}) == len(options)
    assert len(np.unique(bench.show(smooth(90, 60), Gif(colours=8)).reshape(-1, 3), axis=0)) <= 8


@pytest.mark.parametrize(
    "parameters", [{"colours": 1}, {"colours": 257}, {"effort": 0}, {"dither": 2}, {"inter_frame_max_error": 33}]
)
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Gif"):
        Gif(**parameters)
