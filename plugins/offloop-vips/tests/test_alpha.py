"""Colour under alpha: each step, and a chain of steps, keeps it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.operation import Operation
from offloop_vips import Blur, Grayscale, Png, Raw, Resize, Rotate, Sharpen

COLOUR = (200, 100, 50)
CHAIN = (Resize(50), Blur(1), Sharpen(), Rotate(90), Blur(), Sharpen(2), Resize(70), Rotate(33, background="#0000"), Resize(40))


def flat(alpha: Any) -> Any:
    array = np.zeros((64, 64, 4), "u1")
    array[..., :3], array[..., 3] = COLOUR, alpha
    return array


@pytest.mark.parametrize(
    "step",
    [Resize(50), Resize(90, kernel="linear"), Blur(), Blur(2), Sharpen(), Sharpen(2), Rotate(33), Rotate(90),
     Resize(60, 30, fit="contain", background=(*COLOUR, 0)), Resize(30, 60, position="attention")],
)  # fmt: skip
@pytest.mark.parametrize("alpha", [1, 16, 255])
def test_a_step_keeps_a_flat_colour_exactly(bench: Any, step: Operation, alpha: int):
    shown = bench.show(flat(alpha), step)
    assert tuple(shown[shown.shape[0] // 2, shown.shape[1] // 2]) == (*COLOUR, alpha)


@pytest.mark.parametrize("alpha", [1, 2, 8, 64, 200])
def test_a_chain_of_steps_keeps_a_flat_colour_within_one_level(bench: Any, alpha: int):
    shown = bench.show(flat(alpha), *CHAIN)
    assert shown[20, 20] == pytest.approx([*COLOUR, alpha], abs=1)


@pytest.mark.parametrize("alpha", [64, 128, 200, 255])
def test_a_fast_resize_rounds_colours_that_are_multiplied_by_alpha_to_8_bits(bench: Any, alpha: int):
    shown = bench.show(flat(alpha), Resize(30, fast=True))
    assert shown[15, 15] == pytest.approx([*COLOUR, alpha], abs=0.5 * 255 / alpha + 0.5)
    opaque = flat(alpha)
    opaque[..., :3] = np.arange(64)[None, :, None] * 4
    exact = bench.show(opaque, Resize(30))
    assert np.abs(bench.show(opaque, Resize(30, fast=True)) - exact).max() <= 1 + 255 / alpha


def test_a_fast_resize_is_followed_by_exact_steps(bench: Any):
    assert bench.show(flat(16), Resize(32, fast=True), *[Blur()] * 5)[16, 16] == pytest.approx([*COLOUR, 16], abs=8)
    assert (bench.show(flat(255), Resize(32, fast=True), *[Blur()] * 5)[16, 16] == (*COLOUR, 255)).all()


def test_a_chain_of_steps_keeps_the_colour_under_a_gradient_of_alpha(bench: Any):
    shown = bench.show(flat(np.linspace(0, 255, 64)), Resize(50), Blur(1), Blur(), Resize(40), Resize(20))
    visible = shown[shown[..., 3] >= 1]
    assert len(visible) > 300
    assert np.abs(visible[:, :3] - COLOUR).max() <= 1


def test_a_chain_of_steps_keeps_grey_under_alpha(bench: Any):
    array = np.full((64, 64, 2), (200, 9), "u1")
    assert bench.show(array, Resize(50), Blur(), Sharpen(1), Blur(2), Grayscale())[20, 20] == pytest.approx([200, 9], abs=1)


def test_an_opaque_picture_does_not_get_darker_by_repeated_steps(bench: Any, smooth: Any):
    array = smooth(64, 64)
    shown = bench.show(array, *[Blur(), Sharpen()] * 6)
    assert abs((shown - array)[16:48, 16:48].mean()) < 0.2


@pytest.mark.parametrize("bands", [1, 3])
def test_sharpening_under_full_alpha_is_that_of_an_opaque_picture(bench: Any, smooth: Any, bands: int):
    array = smooth(20, 15, bands).repeat(4, axis=0).repeat(4, axis=1)
    with_alpha = np.pad(array, ((0, 0), (0, 0), (0, 1)), constant_values=255)
    opaque, shown = bench.show(array, Sharpen(1.5, m1=2)), bench.show(with_alpha, Sharpen(1.5, m1=2))
    assert np.abs(opaque - array).max() > 5
    assert np.abs(shown[..., :-1] - opaque).max() <= 1
    assert (shown[..., -1] == 255).all()


def test_sharpening_does_not_mix_colours_of_transparent_pixels_in(bench: Any):
    array = flat(255)
    array[:, :32] = (255, 255, 255, 0)
    shown = bench.show(array, Sharpen(2, m2=10))
    assert np.abs(shown[:, 32:] - (*COLOUR, 255)).max() <= 1


def test_a_file_has_the_colours_that_a_raster_has(bench: Any):
    array = flat(np.linspace(0, 255, 64))
    steps = (Resize(50), Blur(1))
    assert (bench.show(array, *steps, Png()) == bench.show(array, *steps, Raw())).all()
