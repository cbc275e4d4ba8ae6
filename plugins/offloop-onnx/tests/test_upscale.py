"""Upscale: tiles and seams, alpha, grey, dtypes, progress, cancellation, failing tiles."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import TaskFailed
from offloop.processor import Raster, TaskCancelled
from offloop_onnx import OnnxModel, Upscale
from offloop_onnx.pictures.resampling import enlarge_lanczos
from offloop_onnx.processor.sessions import Sessions
from offloop_onnx.processor.upscaling import spans, upscale
from offloop_onnx.settings import OnnxSettings

from .conftest import Array, Bench, CountingTask
from .tiny_networks import constant, network

PHOTO = Path(__file__).parents[3] / "docs" / "photos" / "chelsea.png"


@pytest.fixture(scope="module")
def cat() -> Array:
    """A part of a photograph, 150 x 130 pixels."""
    return np.ascontiguousarray(pyvips.Image.new_from_file(str(PHOTO)).crop(90, 60, 150, 130).numpy())


@pytest.fixture
def doubler(bench: Bench) -> OnnxModel:
    """A model that repeats each pixel, and takes sides that are a multiple of 4."""
    data = network(
        [("Resize", ["image", "", "scales"], "result", {"mode": "nearest", "nearest_mode": "floor",
          "coordinate_transformation_mode": "asymmetric"})],
        shape=[1, 3, "rows", "columns"],
        constants=[constant("scales", [1, 1, 2, 2])],
    )  # fmt: skip
    return bench.model(data, output="rgb", scale=2, multiple=4)


def repeated(array: Array) -> Array:
    return array.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize("shape", [(1, 1), (37, 53), (64, 64), (65, 129), (1, 200)])
def test_every_pixel_of_the_source_is_in_its_place(bench: Bench, doubler: OnnxModel, shape: tuple[int, int]) -> None:
    source = np.random.default_rng(3).integers(0, 256, (*shape, 3), "u1")
    result = bench.run(source, Upscale(model=doubler, tile=32, overlap=4))
    assert np.array_equal(result, repeated(source))
    assert bench.info["tiles"] == -(-shape[0] // 32) * -(-shape[1] // 32)


def test_tiles_of_the_shipped_model_give_what_one_tile_gives(bench: Bench, cat: Array) -> None:
    whole = bench.run(cat, Upscale(tile=256)).astype(int)
    tiled = bench.run(cat, Upscale(tile=48))
    assert whole.shape == (260, 300, 3)
    assert bench.info["tiles"] == 12
    assert np.abs(tiled - whole).max() <= 1
    assert np.abs(bench.run(cat, Upscale(tile=48, overlap=0)) - whole).max() > 10  # the model needs to see beyond a tile


def test_a_seam_is_blended(bench: Bench) -> None:
    """A model whose level depends on the tile has a step at each seam, which becomes a ramp."""
    data = network(
        [
            ("ReduceMean", ["image"], "mean", {"axes": [2, 3], "keepdims": 1}),
            ("Resize", ["image", "", "scales"], "large", {"mode": "nearest"}),
            ("Mul", ["large", "zero"], "nothing", {}),
            ("Add", ["nothing", "mean"], "result", {}),
        ],
        shape=[1, 3, "rows", "columns"],
        constants=[constant("scales", [1, 1, 2, 2]), constant("zero", 0.0)],
    )
    model = bench.model(data, output="rgb", scale=2)
    source = np.zeros((32, 96, 3), "u1")
    source[:, 48:] = 255
    hard = np.diff(bench.run(source, Upscale(model=model, tile=32, overlap=0))[10, :, 0].astype(int))
    soft = np.diff(bench.run(source, Upscale(model=model, tile=32, overlap=16))[10, :, 0].astype(int))
    assert np.abs(hard).max() > 100
    assert np.abs(soft).max() < 12
    assert np.count_nonzero(soft) >= 28  # two ramps of 8 source pixels


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<f4"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_bands_and_dtypes_are_kept(bench: Bench, doubler: OnnxModel, dtype: str, bands: int) -> None:
    white = {"|u1": 255, "<u2": 65535, "<f4": 255}[dtype]
    source = (np.random.default_rng(5).integers(0, 256, (40, 40, bands)) * (white // 255)).astype(dtype)
    result = bench.run(source, Upscale(model=doubler, tile=16, overlap=8))
    colours = bands - (bands in (2, 4))
    assert (result.shape, result.dtype) == ((80, 80, bands), np.dtype(dtype))
    assert np.allclose(result[..., :colours], repeated(source)[..., :colours], rtol=2e-6)
    if colours < bands:
        alpha = enlarge_lanczos(source[..., -1:].astype("f4") / white, 2)[..., 0]
        expected = alpha if dtype == "<f4" else np.clip(alpha, 0, 1)
        assert np.abs(result[..., -1] / white - expected).max() < 0.005


def test_lanczos_enlarges_about_the_centre_and_keeps_levels() -> None:
    ramp: Array = np.tile(np.arange(20, dtype="f4")[None, :, None], (6, 1, 1))
    large = enlarge_lanczos(ramp, 4)[8, :, 0]
    expected = (np.arange(80) + 0.5) / 4 - 0.5
    assert np.abs(large - expected)[16:-16].max() < 0.02
    assert np.allclose(enlarge_lanczos(np.full((5, 5, 1), 0.7, "f4"), 3), 0.7, atol=1e-6)


def test_tiles_cover_a_side_once_apart_from_their_seams() -> None:
    for length in (1, 30, 64, 65, 200):
        parts = spans(length, 32, 10)
        assert [part.start for part in parts] == list(range(0, length, 32))
        assert parts[-1].stop == length
        for before, after in pairwise(parts):
            assert before.stop - after.start == min(5, length - after.start) == after.seam
            assert after.first == after.start - 10


def run_with(task: CountingTask, source: Array, operation: Upscale) -> Any:
    sessions = Sessions(OnnxSettings())
    session = sessions.get(operation.onnx_model, 1)
    from offloop_onnx.pictures.picture import Picture

    return upscale(Picture.of(Raster(memoryview(source).cast("B"), source.shape, source.dtype.str)), operation, session, task)


def test_progress_is_that_of_the_tiles_and_a_cancelled_task_stops_between_two(cat: Array) -> None:
    task = CountingTask(cancel_at=1000)
    run_with(task, cat[:40, :80].copy(), Upscale(tile=32))
    assert task.fractions == pytest.approx([index / 6 for index in range(1, 7)])
    stopped = CountingTask(cancel_at=8)  # three checkpoints for a tile
    with pytest.raises(TaskCancelled):
        run_with(stopped, cat[:40, :80].copy(), Upscale(tile=32))
    assert 0 < len(stopped.fractions) < 6


def test_a_tile_that_fails_fails_the_task(bench: Bench) -> None:
    data = network(
        [("Resize", ["image", "", "scales"], "large", {"mode": "nearest"}), ("Log", ["large"], "result", {})],
        shape=[1, 3, "rows", "columns"],
        constants=[constant("scales", [1, 1, 2, 2])],
    )
    model = bench.model(data, output="rgb", scale=2)
    source = np.full((40, 40, 3), 200, "u1")
    source[39, 39] = 0  # its logarithm is not finite, and only the last tile sees it
    with pytest.raises(TaskFailed, match="not finite"):
        bench.run(source, Upscale(model=model, tile=16, overlap=0))


def test_an_output_of_the_wrong_size_fails_the_task(bench: Bench) -> None:
    model = bench.model(network([("Identity", ["image"], "result", {})], shape=[1, 3, "r", "c"]), output="rgb", scale=2)
    with pytest.raises(TaskFailed, match=r"made an output of shape \(1, 3, 20, 20\); expected a picture of 40 x 40") as caught:
        bench.run(np.zeros((20, 20, 3), "u1"), Upscale(model=model))
    assert caught.value.code == "model_failed"
