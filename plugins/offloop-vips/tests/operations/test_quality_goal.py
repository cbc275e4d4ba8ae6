"""Search of the quality: by the length of the file, and by similarity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop_vips import Avif, Jpeg, Resize, Webp
from offloop_vips.processor.similarity import ssim


def picture() -> Any:
    """A picture of 120 x 90 pixels with edges, noise and slopes, which take bytes to encode."""
    noise = np.random.default_rng(1).integers(0, 60, (90, 120, 3))
    y, x = np.mgrid[0:90, 0:120]
    return (noise + (x + y)[..., None] // 2 + 60 * ((x // 20 + y // 15) % 2)[..., None]).clip(0, 255).astype("u1")


@pytest.mark.parametrize("encoder", [Jpeg, Webp, Avif])
def test_the_highest_quality_whose_file_is_short_enough_is_taken(bench: Any, encoder: Any):
    lengths = {quality: len(bench.run(picture(), encoder(quality=quality)).data) for quality in (29, 30, 31, 32, 33, 34)}
    limit = lengths[31]
    result = bench.run(picture(), encoder(max_bytes=limit))
    assert len(result.data) <= limit
    fitting = max(quality for quality, length in lengths.items() if length <= limit)
    assert result.info["quality"] >= 31
    assert result.info["quality"] == fitting or lengths[34] <= limit


def test_a_file_that_is_short_enough_keeps_its_quality(bench: Any):
    result = bench.run(picture(), Jpeg(quality=70, max_bytes=10**6))
    assert bytes(result.data) == bytes(bench.run(picture(), Jpeg(quality=70)).data)
    assert result.info["quality"] == 70


def test_a_limit_that_no_quality_meets_is_a_typed_error(bench: Any):
    with pytest.raises(TaskFailed, match=r"quality 1, the limit is 100 \(max_bytes\)") as failure:
        bench.run(picture(), Jpeg(max_bytes=100))
    assert failure.value.code == "output_too_large"


@pytest.mark.parametrize("encoder", [Jpeg, Webp, Avif])
def test_the_lowest_quality_that_is_similar_enough_is_taken(bench: Any, encoder: Any):
    result = bench.run(picture(), encoder(target="ssim:0.9"))
    assert result.info["ssim"] >= 0.9
    less = bench.run(picture(), encoder(quality=result.info["quality"] - 1))
    decoded = pyvips.Image.new_from_buffer(bytes(less.data), "")
    assert ssim(bench.image(picture()), decoded) < 0.9


def test_a_file_and_its_steps_are_computed_once(bench: Any):
    source = bench.file(picture(), ".png")
    result = bench.run(source, Resize(60), Webp(target="ssim:0.95", max_bytes=900))
    assert len(result.data) <= 900
    assert result.info["width"] == 60
    assert 0 < result.info["ssim"] < 1


def test_similarity_is_that_of_the_paper():
    first = picture()[..., 0].astype(float)
    second = (first * 0.8 + 20).round()
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window /= window.sum()

    def windowed(values: Any) -> Any:
        rows = np.apply_along_axis(lambda row: np.convolve(row, window, "valid"), 1, values)
        return np.apply_along_axis(lambda column: np.convolve(column, window, "valid"), 0, rows)

    mean_a, mean_b = windowed(first), windowed(second)
    a, b, both = windowed(first**2) - mean_a**2, windowed(second**2) - mean_b**2, windowed(first * second) - mean_a * mean_b
    c1, c2 = 2.55**2, 7.65**2
    expected = ((2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (a + b + c2))).mean()

    def image(values: Any) -> Any:
        return pyvips.Image.new_from_array(values.astype("u1")).copy(interpretation="b-w")

    assert ssim(image(first), image(second)) == pytest.approx(expected, abs=0.005)  # with the edges
    assert ssim(image(first), image(first)) == pytest.approx(1)


@pytest.mark.parametrize(
    "parameters",
    [{"max_bytes": 0}, {"target": "psnr:30"}, {"target": "ssim:2"}, {"target": "ssim:0.9", "quality": 30}, {"target": "ssim:"}],
)
@pytest.mark.parametrize("encoder", [Jpeg, Webp, Avif])
def test_invalid_goals_are_refused(encoder: Any, parameters: Any):
    with pytest.raises(InvalidTask, match=encoder.__name__):
        encoder(**parameters)


def test_a_lossless_file_has_no_goal():
    with pytest.raises(InvalidTask, match=r"Webp\(lossless=True\)"):
        Webp(lossless=True, max_bytes=1000)
