"""A reduction of a file that is read from the top down gives the same rows to all steps as that of samples in memory.

The decoder gives each row once, and keeps some hundred. A step that would need an older one fails with "out of order read".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from offloop.operation import Attachment, Operation
from offloop_vips import (
    Blur,
    Composite,
    Convolve,
    Extend,
    Extract,
    Flip,
    Grayscale,
    Jpeg,
    Median,
    Pixelate,
    Raw,
    Resize,
    RoundCorners,
    Sharpen,
    Text,
    Tiff,
    Unsharp,
)

WIDTH, HEIGHT = 1000, 300  # after the reduction
STEPS = {
    "none": [],
    "a small window": [Sharpen(), Median(5)],
    "a window of more rows than are kept": [Blur(30, min_amplitude=0.01)],
    "two branches with windows": [Sharpen(4), Unsharp(radius=25), Blur(10)],
    "a matrix": [Convolve(3, 3, (1, 2, 1, 2, 4, 2, 1, 2, 1))],
    "squares": [Pixelate(150)],
    "a second reduction": [Resize(height=200), Blur(20)],
    "a part": [Extract(5, 140, 940, 150), Sharpen(2)],
    "a margin": [Extend(top=33, bottom=33, extend_with="copy"), Grayscale()],
    "a canvas": [Resize(1200, 250, fit="contain")],
    "the last row first": [Flip()],
    "something drawn": [RoundCorners(30), Text("rows"), Composite(Attachment.at(1))],
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("bands", [3, 4])
def test_a_file_gives_the_pixels_that_its_samples_give(bench: Any, bands: int, steps: list[Operation]):
    samples = np.random.default_rng(bands).integers(0, 256, (HEIGHT * 7 // 2, WIDTH * 7 // 2, bands), "u1")
    attachments = [np.full((300, 20, 3), 90, "u1")]
    operations = [Resize(WIDTH, HEIGHT), *steps, Raw()]
    file = bench.file(samples, ".png", compression=1)
    shown = bench.show(file, *operations, attachments=attachments)
    assert np.array_equal(shown, bench.show(samples, *operations, attachments=attachments))


@pytest.mark.parametrize("height", [1900, 1000, 502, 490, 200, 40, 20, 13, 2])
@pytest.mark.parametrize("steps", [[], [Blur(30, min_amplitude=0.01)]])
def test_a_file_can_be_reduced_by_any_factor(bench: Any, height: int, steps: list[Operation]):
    samples = np.random.default_rng(height).integers(0, 256, (2000, 700, 4), "u1")
    operations = [Resize(700, height, fit="fill"), *steps]
    shown = bench.show(bench.file(samples, ".png", compression=1), *operations, Raw())
    assert np.array_equal(shown, bench.show(samples, *operations, Raw()))


@pytest.mark.parametrize("encoder", [Jpeg(progressive=True), Tiff(compression="none", pyramid=True, tile=True)])
def test_an_encoder_takes_the_rows_of_a_file(bench: Any, encoder: Operation):
    samples = np.random.default_rng(0).integers(0, 256, (HEIGHT * 7 // 2, WIDTH * 7 // 2, 3), "u1")
    shown = bench.show(bench.file(samples, ".png", compression=1), Resize(WIDTH, HEIGHT), encoder)
    assert np.array_equal(shown, bench.show(samples, Resize(WIDTH, HEIGHT), encoder))
