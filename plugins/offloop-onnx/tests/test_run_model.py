"""RunModel: inputs and outputs of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from offloop.errors import InvalidTask, TaskFailed
from offloop.processor import Encoded
from offloop.testing import run_inline
from offloop_onnx import OnnxPlugin, RunModel
from offloop_onnx.processor import OnnxProcessor

from .conftest import Array, Bench
from .tiny_networks import constant, network

IDENTITY: list[Any] = [("Identity", ["image"], "result", {})]


@pytest.fixture
def noise() -> Array:
    return np.random.default_rng(2).integers(0, 256, (30, 44, 3), "u1")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<f4"])
def test_a_picture_of_any_size_comes_back_as_the_model_makes_it(bench: Bench, noise: Array, layout: Any, dtype: str) -> None:
    shape = [1, 3, "rows", "columns"] if layout == "NCHW" else [1, "rows", "columns", 3]
    model = bench.model(
        network(IDENTITY, shape=shape), input=layout, output="rgb", multiple=16, input_range=255, output_range=255
    )
    source = (noise.astype("f8") * (257 if dtype == "<u2" else 1)).astype(dtype)
    result = bench.run(source, RunModel(model))
    assert result.dtype == source.dtype
    assert np.allclose(result, source, rtol=1e-5)
    assert (bench.info["width"], bench.info["height"], bench.info["bands"]) == (44, 30, 3)


def test_a_picture_is_resized_to_the_models_size(bench: Bench) -> None:
    model = bench.model(network(IDENTITY, shape=[1, 3, 20, 10]), size=(20, 10), output="rgb")
    ramp = np.tile((np.arange(1537, dtype="f4") + 0.5)[None, :, None] / 1537 * 255, (200, 1, 3))
    result = bench.run(ramp, RunModel(model))
    assert result.shape == (20, 10, 3)
    assert np.abs(result[10, :, 0] - (np.arange(10) + 0.5) * 25.5)[1:-1].max() < 0.6  # 2 % of a pixel of the result


@pytest.mark.parametrize(("output", "level"), [("alpha", 102), ("logits", round(255 / (1 + np.exp(-0.4))))])
def test_a_mask_has_the_sides_of_the_picture(bench: Bench, output: Any, level: int) -> None:
    data = network([("ReduceMean", ["image"], "result", {"axes": [1], "keepdims": 1})], shape=[1, 3, 8, 8])
    result = bench.run(
        np.full((30, 50, 4), (102, 102, 102, 255), "u1"), RunModel(bench.model(data, size=(8, 8), output=output))
    )
    assert result.shape == (30, 50, 1)
    assert set(np.unique(result).tolist()) == {level}


def test_values_are_normalised_by_range_mean_and_std(bench: Bench) -> None:
    data = network(IDENTITY, shape=[1, 3, 2, 2])
    model = bench.model(data, size=(2, 2), output="tensor", input_range=255, mean=(10, 20, 30), std=(2, 4, 5))
    result = bench.run(np.full((2, 2, 3), (110, 120, 130), "u1"), RunModel(model))
    assert (result.shape, result.dtype) == ((1, 3, 2, 2), np.float32)
    assert result[0, :, 0, 0].tolist() == pytest.approx([50, 25, 20])


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(TensorProto.FLOAT, "<f4"), (TensorProto.INT32, "<i4"), (TensorProto.INT64, "<i8"), (TensorProto.UINT8, "|u1")],
)
def test_a_tensor_goes_in_and_comes_out_as_it_is(bench: Bench, kind: int, dtype: str) -> None:
    data = network([("Add", ["image", "image"], "result", {})], shape=["n", 5], kind=kind)
    source = np.arange(15).reshape(3, 5).astype(dtype)
    result = bench.run(source, RunModel(bench.model(data, input="tensor", output="tensor")))
    assert (result.shape, result.dtype) == ((3, 5), np.dtype(dtype))
    assert np.array_equal(result, 2 * source)


def test_another_output_can_be_chosen_by_its_name(bench: Bench) -> None:
    data = network([("Sum", ["image"], "result", {})], shape=["n"])
    model = bench.model(data, input="tensor", output="tensor", output_name="other")
    with pytest.raises(TaskFailed, match="has no output 'other', but: result"):
        bench.run(np.ones(3, "f4"), RunModel(model))


def test_a_scalar_and_truth_values_become_rasters(bench: Bench) -> None:
    total = network([("ReduceSum", ["image"], "result", {"keepdims": 0})], shape=["n"])
    assert bench.run(np.ones(3, "f4"), RunModel(bench.model(total, input="tensor", output="tensor"))).tolist() == [3.0]
    compare = network(
        [("Greater", ["image", "one"], "result", {})],
        shape=["n"],
        constants=[constant("one", 1.0)],
        output_kind=TensorProto.BOOL,
    )
    result = bench.run(np.arange(3, dtype="f4"), RunModel(bench.model(compare, input="tensor", output="tensor")))
    assert (result.dtype, result.tolist()) == (np.uint8, [0, 0, 1])


def test_an_encoded_source_is_no_raster(bench: Bench) -> None:
    model = bench.model(network(IDENTITY, shape=["n"]), input="tensor", output="tensor")
    settings = OnnxPlugin(model_directories=[bench.directory]).settings
    with pytest.raises(InvalidTask, match="the source is encoded"):
        run_inline(OnnxProcessor(), Encoded(b"abc"), [RunModel(model)], settings=settings)


def test_the_mask_of_a_mirrored_model_is_the_mean_of_both_runs(bench: Bench) -> None:
    columns = constant("columns", np.tile(np.linspace(0, 1, 8, dtype="f4"), (1, 1, 8, 1)))
    data = network(
        [("ReduceMean", ["image"], "grey", {"axes": [1]}), ("Mul", ["grey", "columns"], "result", {})],
        shape=[1, 3, 8, 8],
        constants=[columns],
    )
    picture = np.full((8, 8, 3), 255, "u1")
    plain = bench.run(picture, RunModel(bench.model(data, size=(8, 8))))[0, :, 0]
    mirrored = bench.run(picture, RunModel(bench.model(data, size=(8, 8), mirrored=True)))[0, :, 0]
    assert plain.tolist() == [0, 36, 73, 109, 146, 182, 219, 255]
    assert mirrored.tolist() == [128] * 8
