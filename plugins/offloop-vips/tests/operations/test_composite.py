"""Composite: a second picture over the picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from offloop.errors import InvalidTask, TaskFailed
from offloop.operation import Attachment
from offloop_vips import Composite, Decode, Raw

FIRST = Attachment.at(1)
choose: Any = np.where


def flat(colour: Any, width: int, height: int) -> Any:
    return np.tile(np.array(colour, "u1"), (height, width, 1))


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


def soft_light(below: Any, above: Any) -> Any:
    curve: Any = choose(below <= 0.25, ((16 * below - 12) * below + 4) * below, np.sqrt(below))
    return choose(above <= 0.5, below - (1 - 2 * above) * below * (1 - below), below + (2 * above - 1) * (curve - below))


def hard_light(below: Any, above: Any) -> Any:
    return choose(above <= 0.5, 2 * below * above, 1 - 2 * (1 - below) * (1 - above))


def dodge(below: Any, above: Any) -> Any:
    return choose(below == 0, 0, choose(above == 1, 1, np.minimum(1, below / np.maximum(1 - above, 1e-9))))


# of W3C, Compositing and Blending Level 1, section 9
BLENDS: dict[str, Callable[[Any, Any], Any]] = {
    "over": lambda below, above: above,
    "multiply": lambda below, above: below * above,
    "screen": lambda below, above: below + above - below * above,
    "overlay": lambda below, above: hard_light(above, below),
    "darken": np.minimum,
    "lighten": np.maximum,
    "colour-dodge": dodge,
    "color-dodge": dodge,
    "colour-burn": lambda below, above: 1 - dodge(1 - below, 1 - above),
    "hard-light": hard_light,
    "soft-light": soft_light,
    "difference": lambda below, above: abs(below - above),
    "exclusion": lambda below, above: below + above - 2 * below * above,
}
# factors of the picture above and of the one below, by their alpha: section 8
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "clear": lambda below, above: (0, 0),
    "source": lambda below, above: (1, 0),
    "dest": lambda below, above: (0, 1),
    "dest-over": lambda below, above: (1 - below, 1),
    "in": lambda below, above: (below, 0),
    "dest-in": lambda below, above: (0, above),
    "out": lambda below, above: (1 - below, 0),
    "dest-out": lambda below, above: (0, 1 - above),
    "atop": lambda below, above: (below, 1 - above),
    "dest-atop": lambda below, above: (1 - below, above),
    "xor": lambda below, above: (1 - below, 1 - above),
}


def expected_blend(mode: str, below: Any, above: Any) -> tuple[Any, Any]:
    """Returns colours that are multiplied by alpha, and alpha, 0 to 1."""
    colours, over = below[..., :3] / 255, above[..., :3] / 255
    alpha, over_alpha = below[..., 3:] / 255, above[..., 3:] / 255
    if mode == "add":
        return np.minimum(over_alpha * over + alpha * colours, 1), np.minimum(over_alpha + alpha, 1)
    if mode in BLENDS:
        mixed = (1 - alpha) * over + alpha * BLENDS[mode](colours, over)
        return over_alpha * mixed + (1 - over_alpha) * alpha * colours, over_alpha + alpha * (1 - over_alpha)
    of_over, of_below = OPERATORS[mode](alpha, over_alpha)
    return over_alpha * of_over * over + alpha * of_below * colours, over_alpha * of_over + alpha * of_below


@pytest.mark.parametrize("mode", ["add", *BLENDS, *OPERATORS])
@pytest.mark.parametrize("opaque", ["neither", "below", "above", "both"])
def test_every_blend_mode_is_that_of_css(bench: Any, mode: Any, opaque: str):
    below, above = np.random.default_rng(1).integers(0, 256, (2, 40, 60, 4), "u1")
    if opaque in ("below", "both"):
        below[..., 3] = 255
    if opaque in ("above", "both"):
        above[..., 3] = 255
    shown = bench.show(below, Composite(FIRST, blend=mode), attachments=[above])
    colours, alpha = expected_blend(mode, below, above)
    assert np.abs(shown[..., 3:] - alpha * 255).max() <= 1
    visible = (alpha > 0.1)[..., 0]
    straight = colours[visible] / alpha[visible] * 255
    assert straight.size == 0 or np.abs(shown[visible][:, :3] - straight).max() <= 2


@pytest.mark.parametrize("mode", ["multiply", "screen", "soft-light", "atop"])
def test_a_blend_changes_nothing_outside_of_the_second_picture(bench: Any, smooth: Any, mode: Any):
    picture = smooth(60, 40)
    shown = bench.show(picture, Composite(FIRST, blend=mode, left=-4, top=30), attachments=[flat((9, 99, 199, 128), 20, 20)])
    assert (shown[:30] == picture[:30]).all()
    assert (shown[:, 16:] == picture[:, 16:]).all()
    assert (shown[30:, :16] != picture[30:, :16]).any(axis=2).mean() > 0.8


@pytest.mark.parametrize("parameters", [{"blend": "melt"}, {"gravity": "entropy"}, {"left": 1}, {"top": 1}, {"opacity": 1.1}])
def test_invalid_parameters_are_refused(parameters: Any):
    with pytest.raises(InvalidTask, match="Composite"):
        Composite(FIRST, **parameters)
