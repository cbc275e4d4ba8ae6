"""Composite: a second picture over the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask, TaskFailed
from offloop.operation import Attachment
from offloop_vips import Composite, Decode, Raw

FIRST = Attachment.at(1)


def flat(colour: Any, width: int, height: int) -> Any:
    return np.tile(np.array(colour, "u1"), (height, width, 1))


def blended(mode: str, below: Any, above: Any) -> Any:
    """Returns the blend of opaque colours by the formulas of the W3C."""
    b, s = np.array(below) / 255, np.array(above) / 255
    formulas: dict[str, Any] = {
        "over": s,
        "multiply": b * s,
        "screen": b + s - b * s,
        "darken": np.minimum(b, s),
        "lighten": np.maximum(b, s),
        "difference": np.abs(b - s),
        "exclusion": b + s - 2 * b * s,
        "add": np.minimum(b + s, 1),
        "overlay": np.where(b <= 0.5, 2 * b * s, 1 - 2 * (1 - b) * (1 - s)),
        "hard-light": np.where(s <= 0.5, 2 * b * s, 1 - 2 * (1 - b) * (1 - s)),
        "dest-over": b,
    }
    return formulas[mode] * 255


MODES = (
    "over",
    "multiply",
    "screen",
    "darken",
    "lighten",
    "difference",
    "exclusion",
    "add",
    "overlay",
    "hard-light",
    "dest-over",
)


@pytest.mark.parametrize("mode", MODES)
def test_the_modes_are_those_of_the_w3c(bench: Any, mode: Any):
    below, above = (200, 90, 30), (60, 140, 220)
    shown = bench.show(flat(below, 9, 7), Composite(FIRST, mode), attachments=[flat(above, 9, 7)])
    assert shown.shape == (7, 9, 3)
    assert shown[3, 4] == pytest.approx(blended(mode, below, above), abs=1)


@pytest.mark.parametrize("mode", ["over", "dest-over", "dest-in", "dest-out", "xor"])
def test_the_modes_with_alpha_are_those_of_porter_and_duff(bench: Any, mode: Any):
    below, above = np.array((200, 90, 30, 128)) / 255, np.array((60, 140, 220, 64)) / 255
    a, b = above[3], below[3]
    parts = {"over": (1, 1 - a), "dest-over": (1 - b, 1), "dest-in": (0, a), "dest-out": (0, 1 - a), "xor": (1 - b, 1 - a)}
    above_part, below_part = parts[mode]
    alpha = a * above_part + b * below_part
    colours = (above[:3] * a * above_part + below[:3] * b * below_part) / alpha
    shown = bench.show(flat(below * 255, 9, 7), Composite(FIRST, mode), attachments=[flat(above * 255, 9, 7)])
    assert shown[3, 4, :3] == pytest.approx(colours * 255, abs=1.5)
    assert shown[3, 4, 3] == pytest.approx(alpha * 255, abs=1)


def where(shown: Any) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((shown[..., 0] > 128).any(axis=axis)) for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ({}, (15, 10, 25, 15)),
        ({"gravity": "northwest"}, (0, 0, 10, 5)),
        ({"gravity": "southeast"}, (30, 20, 40, 25)),
        ({"left": 3, "top": 7}, (3, 7, 13, 12)),
        ({"left": -4, "top": -2}, (0, 0, 6, 3)),
        ({"left": 35, "top": 22}, (35, 22, 40, 25)),
    ],
)
def test_the_second_picture_is_at_its_place_and_cut_at_the_edges(bench: Any, place: Any, expected: Any):
    shown = bench.show(flat((0, 0, 0), 40, 25), Composite(FIRST, **place), attachments=[flat((255, 255, 255), 10, 5)])
    assert shown.shape == (25, 40, 3)
    assert where(shown) == expected


def test_a_second_picture_larger_than_the_picture_is_cut(bench: Any, smooth: Any):
    shown = bench.show(flat((0, 0, 0), 20, 10), Composite(FIRST, left=-5, top=-3), attachments=[smooth(90, 60)])
    assert (shown == smooth(90, 60)[3:13, 5:25]).all()


def test_tiles_cover_the_picture_from_their_place(bench: Any, smooth: Any):
    tile = smooth(7, 5)
    shown = bench.show(flat((0, 0, 0), 40, 25), Composite(FIRST, left=3, top=2, tile=True), attachments=[tile])
    expected = np.roll(np.tile(tile, (7, 8, 1)), (2, 3), axis=(0, 1))[:25, :40]
    assert (shown == expected).all()


def test_opacity_mixes(bench: Any):
    shown = bench.show(flat((0, 0, 0), 9, 9), Composite(FIRST, opacity=0.25), attachments=[flat((255, 255, 255), 9, 9)])
    assert (np.abs(shown - 64) <= 1).all()


def test_a_colour_under_low_alpha_survives_many_composites(bench: Any):
    steps = [Composite(FIRST, gravity="northwest")] * 5
    shown = bench.show(flat((200, 100, 50, 9), 20, 20), *steps, attachments=[flat((0, 0, 0, 0), 4, 4)])
    assert shown[2, 2] == pytest.approx([200, 100, 50, 9], abs=1)


def test_a_file_a_grey_picture_and_sixteen_bits_are_second_pictures(bench: Any, smooth: Any):
    turned = bench.file(smooth(20, 10), ".jpg", orientation=6)
    assert bench.show(flat((0, 0, 0), 10, 20), Composite(FIRST), attachments=[turned]).shape == (20, 10, 3)
    deep = np.full((9, 9, 3), 10_000, "u2")
    shown = bench.show(deep, Composite(FIRST), Raw("uint16"), attachments=[flat((128,), 9, 9)])
    assert (shown == 128 * 257).all()


def test_each_page_gets_the_second_picture(bench: Any):
    frames = [flat((level, level, level), 30, 20) for level in (10, 100)]
    source = bench.animation(frames, ".webp", [50, 60])
    shown = bench.show(source, Decode(pages=2), Composite(FIRST, gravity="south"), Raw(), attachments=[flat((255, 0, 0), 4, 4)])
    assert tuple(shown[19, 15, :3]) == tuple(shown[39, 15, :3]) == (255, 0, 0)


def test_a_broken_attachment_is_named(bench: Any, smooth: Any):
    png = bench.file(smooth(90, 60), ".png")
    for source in (png[: len(png) // 2], b"nothing", b""):
        with pytest.raises(TaskFailed, match="attachment 1"):
            bench.run(smooth(30, 20), Composite(FIRST), attachments=[source])
    with pytest.raises(TaskFailed, match="attachment 1: 90 x 60") as failure:
        bench.run(bench.file(smooth(30, 20), ".png"), Decode(max_pixels=700), Composite(FIRST), attachments=[png])
    assert failure.value.code == "too_many_pixels"


@pytest.mark.parametrize("parameters", [{"blend": "melt"}, {"gravity": "entropy"}, {"left": 1}, {"top": 1}, {"opacity": 1.1}])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Composite"):
        Composite(FIRST, **parameters)
