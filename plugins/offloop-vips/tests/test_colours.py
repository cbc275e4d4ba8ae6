"""Colours: valid spellings and invalid values."""

from __future__ import annotations

from typing import Any

import pytest

from offloop.errors import InvalidTask
from offloop_vips import Jpeg, Resize, Rotate, Tint
from offloop_vips.colours import rgba

ORANGE = (255, 128, 0, 1)


@pytest.mark.parametrize(
    "written",
    [
        "#ff8000",
        "#FF8000FF",
        "rgb(255, 128, 0)",
        "rgb(255 128 0)",
        "rgba(255, 128, 0, 1)",
        "rgb(255 128 0 / 100%)",
        "hsl(30.1176, 100%, 50%)",
        "hsl(30.1176deg 100% 50% / 1)",
        "hwb(30.1176 0% 0%)",
        (255, 128, 0),
        (255, 128, 0, 1.0),
    ],
)
def test_every_spelling_of_a_colour_gives_the_same_colour(written: Any):
    assert tuple(rgba(written)) == pytest.approx(ORANGE, abs=0.01)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("rebeccapurple", (102, 51, 153, 1)),
        ("transparent", (0, 0, 0, 0)),
        ("#f008", (255, 0, 0, 136 / 255)),
        ("rgb(0 0 255 / 25%)", (0, 0, 255, 0.25)),
        ((1, 2, 3, 0.5), (1, 2, 3, 0.5)),
        ("rgb(300, -5, 0)", (255, 0, 0, 1)),
    ],
)
def test_names_alpha_and_gamut_follow_css(written: Any, expected: tuple[float, ...]):
    assert tuple(rgba(written)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "nonsense",
    ["", "nonsense", "rgb(1, 2)", "red red", "currentcolor", "lab(50% 40 59)", "#12345", "(" * 10_000, " " * 101 + "red",
     (1, 2), (256, 0, 0), (-1, 0, 0), (0, 0, 0, 1.5), (0, 0, 0, 0, 0), (float("nan"), 0, 0), ("1", 0, 0), 7, None],
)  # fmt: skip
def test_an_invalid_colour_is_refused_by_every_operation_with_a_colour(nonsense: Any):
    for make in (
        lambda: Resize(1, 1, background=nonsense),
        lambda: Rotate(1, background=nonsense),
        lambda: Tint(nonsense),
        lambda: Jpeg(background=nonsense),
    ):
        with pytest.raises(InvalidTask, match=r"background|color"):
            make()


def test_a_list_is_accepted_as_a_tuple():
    assert Tint([1, 2, 3]).color == (1, 2, 3)  # type: ignore[arg-type]
