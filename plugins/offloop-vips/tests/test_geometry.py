"""Sizes and offsets of a resize."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offloop_vips.geometry import Fitting, Size, fit_size, offset

side = st.integers(1, 5000)
optional_side = st.none() | side
fits = st.sampled_from(["cover", "contain", "fill", "inside", "outside"])


@pytest.mark.parametrize(
    ("fit", "scaled", "canvas"),
    [
        ("cover", (480, 320), (320, 320)),
        ("contain", (320, 213), (320, 320)),
        ("fill", (320, 320), (320, 320)),
        ("inside", (320, 213), (320, 213)),
        ("outside", (480, 320), (480, 320)),
    ],
)
def test_each_fit_of_a_landscape_into_a_square(fit: Any, scaled: tuple[int, int], canvas: tuple[int, int]):
    assert fit_size(Size(600, 400), 320, 320, fit=fit) == Fitting(Size(*scaled), Size(*canvas))


def test_a_missing_side_follows_from_the_other_except_when_stretching():
    assert fit_size(Size(600, 400), 300, None).canvas == (300, 200)
    assert fit_size(Size(600, 400), None, 100).canvas == (150, 100)
    assert fit_size(Size(600, 400), 300, None, fit="fill").canvas == (300, 400)


def test_halves_round_to_even_as_in_c():
    assert fit_size(Size(100, 25), 50, None).canvas == (50, 12)
    assert fit_size(Size(100, 27), 50, None).canvas == (50, 14)


def test_no_side_becomes_zero():
    assert fit_size(Size(5000, 1), 10, None).canvas == (10, 1)


@pytest.mark.parametrize(
    ("fit", "canvas"), [("inside", (60, 40)), ("contain", (200, 200)), ("cover", (60, 40)), ("fill", (60, 40))]
)
def test_without_enlargement_keeps_the_scale_of_a_small_picture(fit: Any, canvas: tuple[int, int]):
    assert fit_size(Size(60, 40), 200, 200, fit=fit, without_enlargement=True) == Fitting(Size(60, 40), Size(*canvas))


@pytest.mark.parametrize(("fit", "canvas"), [("outside", (600, 400)), ("cover", (200, 200)), ("inside", (600, 400))])
def test_without_reduction_keeps_the_scale_of_a_large_picture(fit: Any, canvas: tuple[int, int]):
    assert fit_size(Size(600, 400), 200, 200, fit=fit, without_reduction=True) == Fitting(Size(600, 400), Size(*canvas))


@given(side, side, side, side, fits)
def test_every_fit_respects_the_requested_size(width: int, height: int, to_width: int, to_height: int, fit: Any):
    scaled, canvas = fit_size(Size(width, height), to_width, to_height, fit=fit)
    if fit in ("cover", "contain", "fill"):
        assert canvas == (to_width, to_height)
    if fit in ("inside", "contain"):
        assert scaled.width <= to_width
        assert scaled.height <= to_height
    if fit in ("cover", "outside"):
        assert scaled.width >= to_width
        assert scaled.height >= to_height


@given(side, side, optional_side, optional_side, fits, st.booleans(), st.booleans())
def test_a_crop_lies_within_the_picture_and_a_canvas_contains_it(
    width: int, height: int, to_width: int | None, to_height: int | None, fit: Any, smaller: bool, larger: bool
):
    scaled, canvas = fit_size(
        Size(width, height), to_width, to_height, fit=fit, without_enlargement=smaller, without_reduction=larger
    )
    inner, outer = (canvas, scaled) if fit == "cover" else (scaled, canvas)
    for position in ("north", "southeast", "centre"):
        left, top = offset(inner, outer, position, cropping=fit == "cover")
        assert 0 <= left <= left + inner.width <= outer.width
        assert 0 <= top <= top + inner.height <= outer.height


@pytest.mark.parametrize(
    ("gravity", "side", "expected"),
    [
        ("north", "top", (5, 0)),
        ("northeast", "right top", (10, 0)),
        ("east", "right", (10, 10)),
        ("southeast", "right bottom", (10, 20)),
        ("south", "bottom", (5, 20)),
        ("southwest", "left bottom", (0, 20)),
        ("west", "left", (0, 10)),
        ("northwest", "left top", (0, 0)),
        ("centre", "center", (5, 10)),
    ],
)
def test_a_gravity_and_a_side_give_the_same_offset(gravity: Any, side: Any, expected: tuple[int, int]):
    for position in (gravity, side):
        assert offset(Size(10, 10), Size(20, 30), position, cropping=True) == expected


def test_half_an_odd_gap_is_rounded_up_for_a_crop_and_down_for_a_canvas():
    assert offset(Size(10, 10), Size(13, 13), "centre", cropping=True) == (2, 2)
    assert offset(Size(10, 10), Size(13, 13), "centre", cropping=False) == (1, 1)
