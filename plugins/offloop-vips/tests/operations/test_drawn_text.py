"""Text over the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask
from offloop_vips import Raw, Text


def black(bands: int = 3) -> Any:
    array = np.zeros((80, 200, bands), "u1")
    if bands in (2, 4):
        array[..., -1] = 255
    return array


def box(shown: Any) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero(shown[..., :3].max(axis=(2, axis)) > 60) for axis in (1, 0))
    return columns[0], rows[0], columns[-1], rows[-1]


def test_the_text_has_its_colour_and_size(bench: Any):
    shown = bench.show(black(), Text("HHHH", size=40, color="#f00"))
    left, top, right, bottom = box(shown)
    assert shown[..., 0].max() == 255
    assert shown[..., 1:].max() == 0
    assert 24 <= bottom - top <= 36
    assert abs((left + right) / 2 - 100) < 6


def test_a_gravity_and_a_margin_place_it(bench: Any):
    left, top, _, _ = box(bench.show(black(), Text("H", gravity="northwest", margin=10)))
    assert 10 <= left <= 14
    assert 10 <= top <= 20
    _, _, right, bottom = box(bench.show(black(), Text("H", gravity="southeast", margin=10)))
    assert 183 <= right <= 190
    assert 58 <= bottom <= 70


def test_long_lines_are_wrapped(bench: Any):
    _, top, _, bottom = box(bench.show(black(), Text("HHHHH HHHHH HHHHH", size=24)))
    assert bottom - top > 35


def test_markup_is_plain_text(bench: Any):
    plain, marked = (bench.show(black(), Text(text, size=12)) for text in ("b", "<b>b</b>"))
    assert box(marked)[2] - box(marked)[0] > 3 * (box(plain)[2] - box(plain)[0])


@pytest.mark.parametrize("bands", [1, 4])
def test_other_pictures(bench: Any, bands: int):
    shown = bench.show(black(bands), Text("HHH", color="#0f08"))
    assert shown.shape == (80, 200, 3 if bands == 1 else 4)
    assert shown[..., 1].max() == pytest.approx(136, abs=1)
    deep = bench.show(black(bands).astype("u2") * 257, Text("HHH"), Raw("uint16"))
    assert deep[..., 1].max() == 65_535


@pytest.mark.parametrize(
    "parameters",
    [{"text": ""}, {"text": "a\0b"}, {"text": "a" * 2001}, {"text": "a", "font": "sans; rm"}, {"text": "a", "size": 1001},
     {"text": "a", "gravity": "entropy"}, {"text": "a", "color": "nix"}],
)  # fmt: skip
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Text"):
        Text(**parameters)
