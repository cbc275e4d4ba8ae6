"""Trim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Decode, Raw, Trim


def framed(bands: int = 3, size: tuple[int, int] = (40, 60), background: Any = 255) -> Any:
    array = np.full((*size, bands), background, "u1")
    array[7:31, 11:52] = (np.mgrid[7:31, 11:52].sum(axis=0)[:, :, None] * 2) % 120
    return array


@pytest.mark.parametrize("bands", [1, 3])
def test_the_background_is_cut_off_and_info_tells_how_much(bench: Any, bands: int):
    result = bench.run(framed(bands), Trim(), Raw())
    assert (bench.read(result) == framed(bands)[7:31, 11:52]).all()
    assert (result.info["trim_left"], result.info["trim_top"]) == (11, 7)


def test_a_margin_is_kept(bench: Any):
    assert (bench.show(framed(), Trim(margin=3)) == framed()[4:34, 8:55]).all()
    assert bench.show(framed(), Trim(margin=99)).shape == (40, 60, 3)


def test_the_threshold_decides_what_is_background(bench: Any):
    array = np.full((30, 30, 3), 200, "u1")
    array[5:25, 5:25], array[10:20, 10:20] = 180, 20
    assert bench.show(array, Trim(threshold=25)).shape == (10, 10, 3)
    assert bench.show(array, Trim(threshold=15)).shape == (20, 20, 3)


def test_a_given_background_counts_and_not_the_corner(bench: Any):
    array = framed()
    assert bench.show(array, Trim(background="white")).shape == (24, 41, 3)
    assert bench.show(array, Trim(background="#0f0")).shape == (40, 60, 3)


def test_noise_is_ignored_except_in_line_art(bench: Any):
    array = framed()
    array[2, 3] = 0
    assert bench.show(array, Trim()).shape == (24, 41, 3)
    assert bench.show(array, Trim(line_art=True)).shape == (29, 49, 3)


def test_a_dark_picture_on_transparency_is_found_by_its_alpha(bench: Any):
    array = np.zeros((40, 60, 4), "u1")
    array[7:31, 11:52, 3] = 255
    assert (bench.show(array, Trim()) == (0, 0, 0, 255)).all()


def test_sixteen_bits_have_the_same_threshold(bench: Any):
    assert (bench.show(framed().astype("u2") * 257, Trim(), Raw("uint16")) == framed()[7:31, 11:52].astype(int) * 257).all()


def test_a_picture_of_nothing_but_background_stays(bench: Any):
    assert bench.show(np.full((9, 8, 3), 40, "u1"), Trim()).shape == (9, 8, 3)
    assert bench.show(np.full((1, 2, 3), 40, "u1"), Trim()).shape == (1, 2, 3)


def test_the_pages_of_an_animation_keep_one_size(bench: Any):
    frames = [np.full((40, 60, 3), 255, "u1") for _ in range(2)]
    frames[0][10:20, 10:20], frames[1][20:30, 30:50] = 0, 0
    shown = bench.show(bench.animation(frames, ".webp", [50, 60]), Decode(pages=2), Trim(), Raw())
    assert shown.shape[:2] == (2 * 20, 40)


@pytest.mark.parametrize("parameters", [{"threshold": -1}, {"threshold": 256}, {"background": "nix"}, {"margin": -1}])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Trim"):
        Trim(**parameters)
