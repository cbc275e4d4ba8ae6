"""The part of a picture around a small foreground."""

from __future__ import annotations

import numpy as np
import pytest

from offloop_onnx.pictures.regions import Region, cut_into_windows, find_region

from .conftest import Array


def opacity(*parts: tuple[slice, slice, float]) -> Array:
    """Returns the opacity of a picture, at 64 x 64 values, with these parts in it."""
    alpha = np.zeros((64, 64), np.float32)
    for rows, columns, value in parts:
        alpha[rows, columns] = value
    return alpha


def test_it_is_a_square_with_a_margin_around_the_foreground() -> None:
    region = find_region(opacity((slice(24, 34), slice(30, 40), 1.0)), 640, 1280)
    assert region is not None
    assert (region.top + region.bottom, region.left + region.right) == (580, 1400)
    assert region.height == pytest.approx(region.width, abs=1)
    assert 1.4 * 200 < region.width < 2 * 200


def test_at_an_edge_it_is_moved_into_the_picture() -> None:
    region = find_region(opacity((slice(54, 64), slice(0, 10), 1.0)), 1000, 1000)
    assert region is not None
    assert (region.bottom, region.left) == (1000, 0)
    assert region.height == region.width


def test_the_sides_of_a_wide_picture_limit_it() -> None:
    region = find_region(opacity((slice(0, 64), slice(10, 20), 1.0)), 200, 2000)
    assert region is not None
    assert (region.top, region.height) == (0, 200)
    assert region.left <= 312
    assert region.right >= 625


def test_a_large_foreground_or_none_has_no_region() -> None:
    assert find_region(opacity((slice(10, 60), slice(10, 50), 1.0)), 500, 500) is None
    assert find_region(opacity(), 500, 500) is None
    assert find_region(opacity((slice(10, 20), slice(10, 20), 0.05)), 500, 500) is None


def test_specks_do_not_count_and_a_second_person_does() -> None:
    person = (slice(20, 30), slice(20, 30), 1.0)
    alone = find_region(opacity(person), 640, 640)
    assert find_region(opacity(person, (slice(60, 61), slice(60, 61), 1.0)), 640, 640) == alone
    both = find_region(opacity(person, (slice(24, 32), slice(34, 40), 1.0)), 640, 640)
    assert both is not None
    assert both.left <= 200
    assert both.right >= 400


def test_a_foreground_of_which_the_model_is_not_sure_has_a_region() -> None:
    sure, unsure = (find_region(opacity((slice(20, 30), slice(40, 50), value)), 640, 640) for value in (1.0, 0.2))
    assert sure == unsure


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (3, 5)])
def test_it_lies_in_pictures_of_any_shape(shape: tuple[int, int]) -> None:
    alpha = opacity((slice(0, 3), slice(61, 64), 1.0))
    region = find_region(alpha, *shape)
    assert region is None or (0 <= region.top < region.bottom <= shape[0] and 0 <= region.left < region.right <= shape[1])
    assert Region(1, 2, 3, 4)[2:] == (3, 4)


@pytest.mark.parametrize("shape", [(900, 900), (1000, 1500), (400, 30_000)])
def test_each_part_of_a_sixth_of_the_sides_lies_wholly_in_a_window(shape: tuple[int, int]) -> None:
    windows = cut_into_windows(*shape)
    assert len(windows) == 38
    assert all(0 <= one.top < one.bottom <= shape[0] and 0 <= one.left < one.right <= shape[1] for one in windows)
    high, wide = shape[0] // 6, shape[1] // 6
    for top in np.linspace(0, shape[0] - high, 40):
        for left in np.linspace(0, shape[1] - wide, 40):
            assert any(
                one.top <= top + 1 and top + high - 1 <= one.bottom and one.left <= left + 1 and left + wide - 1 <= one.right
                for one in windows
            )


def test_tiny_pictures_have_windows_too() -> None:
    assert all(one.height >= 1 and one.width >= 1 for one in cut_into_windows(1, 2))


def test_a_region_of_a_part_of_a_reduced_picture_is_one_of_the_picture() -> None:
    assert Region(1, 2, 3, 4).within(Region(10, 20, 30, 40)) == Region(11, 22, 3, 4)
    assert Region(1, 2, 3, 4).enlarged(5, 100, 100) == Region(5, 10, 15, 20)
    assert Region(1, 2, 3, 4).enlarged(5, 18, 29) == Region(5, 10, 13, 19)
