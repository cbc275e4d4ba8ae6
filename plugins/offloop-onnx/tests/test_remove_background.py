"""RemoveBackground, with a tiny model that knows the foreground: geometry, colours, alpha, dtypes, backgrounds, refinement."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from msgspec.structs import replace

from offloop.errors import InvalidTask
from offloop.processor import Raster
from offloop.testing import InlineTask
from offloop_onnx import OnnxModel, RemoveBackground
from offloop_onnx.pictures.picture import Picture
from offloop_onnx.pictures.resampling import reduce_picture, reduce_to_bytes
from offloop_onnx.processor import background_removal, masks
from offloop_onnx.processor.sessions import Sessions
from offloop_onnx.settings import OnnxSettings
from offloop_onnx.shipped_models import PEOPLE

from .conftest import Array, Bench, CountingTask
from .tiny_networks import network

PORTRAIT = str(Path(__file__).parents[3] / "docs" / "photos" / "astronaut.jpg")


def opacity_of_disc(shape: tuple[int, int] = (120, 160)) -> Array:
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    return np.clip(40.5 - np.hypot(rows - 59.5, columns - 79.5), 0, 1)


def test_the_foreground_stays_and_the_background_is_transparent_and_black(
    bench: Bench, red_finder: OnnxModel, disc: Array
) -> None:
    result = bench.run(disc, RemoveBackground(model=red_finder))
    assert (result.shape, result.dtype) == ((120, 160, 4), np.uint8)
    assert result[60, 80].tolist() == [255, 0, 0, 255]
    assert result[2, 2].tolist() == [0, 0, 0, 0]


def test_a_refined_mask_is_as_sharp_as_the_picture(bench: Bench, red_finder: OnnxModel, disc: Array) -> None:
    errors: list[Any] = []
    for refine in ("guided", "none"):
        mask = bench.run(disc, RemoveBackground(model=red_finder, mask_only=True, refine=refine))
        errors.append(np.abs(mask[..., 0] / 255 - opacity_of_disc()))
    assert errors[0].mean() < 0.25 * errors[1].mean()
    assert errors[0].mean() < 0.01


def test_pixels_at_the_edge_have_the_colour_of_the_foreground(bench: Bench, red_finder: OnnxModel, disc: Array) -> None:
    result = bench.run(disc, RemoveBackground(model=red_finder)).astype(int)
    edge = result[(result[..., 3] > 60) & (result[..., 3] < 200)]
    assert len(edge) > 50
    assert edge[:, 2].mean() < 25  # blue of the old background; half of it without the estimate
    assert edge[:, 0].mean() > 230


@pytest.mark.parametrize(
    ("background", "bands", "corner"),
    [
        ((0, 255, 0), 3, [0, 255, 0]),
        ((0, 255, 0, 1.0), 3, [0, 255, 0]),
        ((0, 255, 0, 0.5), 4, [0, 255, 0, 128]),
        ((0, 0, 0, 0.0), 4, [0, 0, 0, 0]),
    ],
)
def test_a_background_replaces_the_old_one(
    bench: Bench, red_finder: OnnxModel, disc: Array, background: tuple[float, ...], bands: int, corner: list[int]
) -> None:
    result = bench.run(disc, RemoveBackground(model=red_finder, background=background))
    assert result.shape[2] == bands
    assert result[2, 2].tolist() == corner
    assert result[60, 80, :3].tolist() == [255, 0, 0]


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<f4"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_grey_and_alpha_and_every_dtype_are_kept(bench: Bench, dtype: str, bands: int) -> None:
    nodes: list[Any] = [("Slice", ["image", "from", "to", "axis"], "red", {}), ("Ceil", ["red"], "result", {})]
    bright = network(nodes, shape=[1, 3, 16, 16], constants=_slice())
    white = {"|u1": 255, "<u2": 65535, "<f4": 255}[dtype]
    source = np.full((40, 48, bands), 0.75 * white, dtype)
    source[:, 24:, : bands - (bands in (2, 4))] = 0
    if bands in (2, 4):
        source[:10, :, -1] = 0
        source[10:, :, -1] = white
    result = bench.run(source, RemoveBackground(model=bench.model(bright, size=(16, 16))))
    assert (result.shape, result.dtype) == ((40, 48, 2 if bands < 3 else 4), np.dtype(dtype))
    assert result[30, 4, 0] == pytest.approx(source[30, 4, 0], rel=1e-6)
    assert result[30, 4, -1] == white
    assert result[30, 44, -1] == 0
    assert result[4, 4, -1] == (0 if bands in (2, 4) else result[30, 4, -1])


def _slice() -> list[Any]:
    from .tiny_networks import constant

    return [constant("from", [0], "i8"), constant("to", [1], "i8"), constant("axis", [1], "i8")]


def test_a_coloured_background_makes_a_grey_picture_coloured(bench: Bench, red_finder: OnnxModel, disc: Array) -> None:
    grey = np.ascontiguousarray(disc[..., :1])
    assert bench.run(grey, RemoveBackground(model=red_finder, background=(0, 0, 200))).shape == (120, 160, 3)
    assert bench.run(grey, RemoveBackground(model=red_finder, background=(9, 9, 9))).shape == (120, 160, 1)


def test_a_threshold_makes_a_mask_of_two_values_and_a_feather_softens_it(
    bench: Bench, red_finder: OnnxModel, disc: Array
) -> None:
    hard = bench.run(disc, RemoveBackground(model=red_finder, mask_only=True, threshold=0.5))
    assert sorted(np.unique(hard).tolist()) == [0, 255]
    soft = bench.run(disc, RemoveBackground(model=red_finder, mask_only=True, threshold=0.5, feather=4))
    row = soft[60, :, 0].astype(int)
    assert np.ptp(soft.sum() / hard.sum() - 1) < 0.02
    width = np.count_nonzero((row[:80] > 0.159 * 255) & (row[:80] < 0.841 * 255))
    assert 6 <= width <= 10  # 2 standard deviations


def test_strips_do_not_show_in_a_feathered_mask(
    bench: Bench, red_finder: OnnxModel, disc: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = RemoveBackground(model=red_finder, feather=3)
    whole = bench.run(disc, operation)
    monkeypatch.setattr("offloop_onnx.pictures.picture._STRIP_PIXELS", 160 * 7)
    assert np.abs(bench.run(disc, operation).astype(int) - whole).max() <= 1


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"refine": "none"},
        {"background": (0, 200, 90)},
        {"background": (9, 9, 9, 0.25)},
        {"mask_only": True},
        {"threshold": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_pixels_far_from_an_edge_are_as_if_they_had_been_computed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, bands: int, fields: dict[str, Any]
) -> None:
    picture: Array = pyvips.Image.new_from_file(PORTRAIT).numpy()[:, :401, :bands]
    if bands == 4:
        alpha = np.clip(np.arange(512) - 100, 0, 255).astype("u1")
        picture = np.dstack([picture, np.repeat(alpha[:, None], 401, 1)])
    found = bench.run(picture, RemoveBackground(**fields)).astype(int)

    def all_mixed(lowest: Array, highest: Array) -> Array:
        return np.ones(lowest.shape, "u1")

    monkeypatch.setattr(masks, "_states_of_cells", all_mixed)
    assert np.abs(found - bench.run(picture, RemoveBackground(**fields))).max() <= 1


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<f4"])
@pytest.mark.parametrize("factor", [1, 3, 7])
def test_a_reduced_picture_has_the_means_of_its_blocks(dtype: str, factor: int) -> None:
    samples: Array = np.random.default_rng(3).integers(0, 256, (20, 38, 3)).astype(dtype)
    picture = Picture.of(Raster(memoryview(samples).cast("B"), samples.shape, dtype))
    means = reduce_picture(picture, factor, InlineTask())
    for row in range(means.shape[1]):
        for column in range(means.shape[2]):
            block = samples[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert means[:, row, column] == pytest.approx(block.mean(axis=(0, 1)) / picture.white, rel=1e-5)


@pytest.mark.parametrize("fields", [{}, {"background": (9, 9, 9, 0.25), "feather": 5}, {"mask_only": True}], ids=str)
@pytest.mark.parametrize("bands", [3, 4])
def test_pixels_at_edges_are_computed_in_parts_that_do_not_show(
    bench: Bench, red_finder: OnnxModel, monkeypatch: pytest.MonkeyPatch, disc: Array, bands: int, fields: dict[str, Any]
) -> None:
    picture = np.dstack([disc, np.arange(160, dtype="u1")[None].repeat(120, 0)])[..., :bands]
    operation = RemoveBackground(model=red_finder, **fields)
    whole = bench.run(picture, operation)
    monkeypatch.setattr(background_removal, "_MIXED_PIXELS", 37)
    assert np.array_equal(bench.run(picture, operation), whole)


@pytest.mark.parametrize(("dtype", "white"), [("|u1", 255), ("<u2", 65535)])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_a_picture_is_reduced_to_bytes_in_strips(dtype: str, white: int, bands: int, monkeypatch: pytest.MonkeyPatch) -> None:
    samples: Array = (np.random.default_rng(3).random((41, 38, bands)) * white).astype(dtype)
    picture = Picture.of(Raster(memoryview(samples).cast("B"), samples.shape, dtype))
    means = reduce_picture(picture, 4, InlineTask()).transpose(1, 2, 0)
    monkeypatch.setattr("offloop_onnx.pictures.picture._STRIP_PIXELS", 38 * 3)
    small = reduce_to_bytes(picture, 4, InlineTask())
    assert small.samples.shape == (11, 10, 1 if bands == 1 else 3)
    assert np.abs(small.samples / 255 - means).max() <= 0.5 / 255 + 1e-6


def test_info_has_the_card_and_the_coverage(bench: Bench, red_finder: OnnxModel, disc: Array) -> None:
    bench.run(disc, RemoveBackground(model=red_finder))
    assert bench.info["coverage"] == pytest.approx(opacity_of_disc().mean(), abs=0.01)
    assert (bench.info["model"], bench.info["model_licence"]) == ("tiny", "MIT")
    assert bench.info["model_sha256"] == red_finder.sha256


@pytest.mark.parametrize(
    "model",
    [
        OnnxModel.u2net,
        partial(OnnxModel.isnet, size=(64, 64)),
        partial(OnnxModel.birefnet, size=(64, 64)),
    ],
    ids=["u2net", "isnet", "birefnet"],
)
def test_a_preset_normalises_as_its_models_were_trained(bench: Bench, disc: Array, model: Any) -> None:
    preset: OnnxModel = model("x", "0" * 64)
    side = 320 if preset.size == (320, 320) else 64
    band = _slice()
    undo = [*band, _constant("std", preset.std[0]), _constant("mean", preset.mean[0]), _constant("ten", 10.0)]
    nodes: list[Any] = [
        ("Slice", ["image", "from", "to", "axis"], "red", {}),
        ("Mul", ["red", "std"], "scaled", {}),
        ("Add", ["scaled", "mean"], "value" if preset.output == "logits" else "result", {}),
    ]
    if preset.output == "logits":  # from -5 for black to 5 for red
        nodes += [("Mul", ["value", "ten"], "wide", {}), ("Sub", ["wide", "five"], "result", {})]
        undo.append(_constant("five", 5.0))
    data = network(nodes, shape=[1, 3, side, side], constants=undo)
    saved = bench.model(data)
    mask = bench.run(disc, RemoveBackground(model=model(saved.path, saved.sha256), mask_only=True, refine="none"))
    assert mask[60, 80, 0] >= 253
    assert mask[2, 2, 0] <= 2
    assert bench.info["model"] in ("u2net", "isnet", "birefnet")


def _constant(name: str, value: float) -> Any:
    from .tiny_networks import constant

    return constant(name, value)


def test_a_tiny_picture_is_cut_out(bench: Bench) -> None:
    assert bench.run(np.full((1, 1, 3), 90, "u1"), RemoveBackground()).shape == (1, 1, 4)
    assert bench.run(np.full((3, 700, 3), 90, "u1"), RemoveBackground()).shape == (3, 700, 4)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_picture_has_an_empty_mask(bench: Bench, level: int) -> None:
    mask = bench.run(np.full((120, 160, 3), level, "u1"), RemoveBackground(mask_only=True))
    assert bench.info["coverage"] < 0.002
    assert mask.max() < 30
    assert bench.info["model"] == PEOPLE.name


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"background": (1, 2)}, "expected \\(red, green, blue"),
        ({"background": (1, 2, 256)}, "expected \\(red, green, blue"),
        ({"background": (1, 2, 3, 1.5)}, "expected \\(red, green, blue"),
        ({"mask_only": True, "background": (1, 2, 3)}, "a mask has no background"),
        ({"model": "cats"}, "model='cats'"),
        ({"feather": -1}, "feather=-1"),
        ({"threshold": 2}, "threshold=2"),
    ],
)
def test_wrong_parameters_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        RemoveBackground(**fields)


def test_a_model_that_makes_no_mask_is_refused() -> None:
    model = OnnxModel(path="x", sha256="0" * 64, name="n", licence="l", source="s", output="rgb")
    with pytest.raises(InvalidTask, match="expected 'alpha' or 'logits'"):
        RemoveBackground(model=model)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 5), "u1"), "1 to 4 bands"),
        (np.zeros((4, 4, 3), "f8"), "expected one of"),
        (np.zeros((2, 4, 4, 3), "u1"), "expected \\(height, width\\)"),
    ],
)
def test_a_raster_that_is_no_picture_is_refused(bench: Bench, array: Array, message: str) -> None:
    with pytest.raises(InvalidTask, match=message):
        bench.run(array, RemoveBackground())


@pytest.fixture
def two_passes(red_finder: OnnxModel) -> OnnxModel:
    return replace(red_finder, second_pass=True)


def small_disc(radius: float = 14.0, row: float = 200.0, column: float = 90.0) -> tuple[Array, Array]:
    """Returns a picture of 400 x 300 pixels with a small red disc on blue, and the opacity of the disc."""
    rows, columns = np.mgrid[0:300, 0:400]
    alpha = np.clip(radius + 0.5 - np.hypot(rows - row, columns - column), 0, 1)
    return np.rint(alpha[..., None] * (255, 0, 0) + (1 - alpha[..., None]) * (0, 0, 255)).astype("u1"), alpha


def test_a_second_pass_finds_the_edge_of_a_small_foreground(bench: Bench, red_finder: OnnxModel, two_passes: OnnxModel) -> None:
    picture, alpha = small_disc()
    errors: list[float] = []
    for model, passes in ((red_finder, 1), (two_passes, 2)):
        mask = bench.run(picture, RemoveBackground(model=model, mask_only=True, refine="none"))[..., 0] / 255
        errors.append(float(np.abs(mask - alpha).mean()))
        assert bench.info["passes"] == passes
        assert bench.info["coverage"] == pytest.approx(alpha.mean(), rel=0.1)
    assert errors[1] < 0.4 * errors[0]


def test_a_large_foreground_has_one_pass(bench: Bench, two_passes: OnnxModel, disc: Array) -> None:
    bench.run(disc, RemoveBackground(model=two_passes))
    assert bench.info["passes"] == 1


def test_a_second_pass_that_is_not_sure_does_not_count(bench: Bench, red_finder: OnnxModel) -> None:
    picture, _ = small_disc()
    picture[picture[..., 0] > 0, 0] = 155  # an opacity of 0.6
    models = (red_finder, replace(red_finder, second_pass=True))
    results = [bench.run(picture, RemoveBackground(model=model, mask_only=True)) for model in models]
    assert bench.info["passes"] == 2
    assert results[0].max() > 128
    assert np.array_equal(*results)


@pytest.mark.parametrize("place", [(200, 90), (285, 390), (10, 5)])
@pytest.mark.parametrize("fields", [{}, {"feather": 6}, {"background": (0, 200, 90)}, {"mask_only": True}], ids=str)
def test_strips_do_not_show_around_a_small_foreground(
    bench: Bench, two_passes: OnnxModel, monkeypatch: pytest.MonkeyPatch, place: tuple[int, int], fields: dict[str, Any]
) -> None:
    picture, _ = small_disc(14.0, *place)
    operation = RemoveBackground(model=two_passes, **fields)
    whole = bench.run(picture, operation)
    assert bench.info["passes"] == 2
    monkeypatch.setattr("offloop_onnx.pictures.picture._STRIP_PIXELS", 400 * 7)
    assert np.abs(bench.run(picture, operation).astype(int) - whole).max() <= 1
    assert (whole[150, 200] == whole[20, 380]).all(), "all of the background is equal"


def test_the_edge_of_a_small_foreground_has_its_own_colour(bench: Bench, two_passes: OnnxModel) -> None:
    picture, _ = small_disc()
    result = bench.run(picture, RemoveBackground(model=two_passes)).astype(int)
    edge = result[(result[..., 3] > 60) & (result[..., 3] < 200)]
    assert len(edge) > 20
    assert edge[:, 2].mean() < 40
    assert edge[:, 0].mean() > 215


def test_progress_grows_from_pass_to_pass(bench: Bench, two_passes: OnnxModel) -> None:
    picture, _ = small_disc()
    task = CountingTask(cancel_at=1000)
    session = Sessions(OnnxSettings((str(bench.directory),))).get(two_passes, 1)
    source = Picture.of(Raster(memoryview(picture).cast("B"), picture.shape, "|u1"))
    background_removal.remove_background(source, RemoveBackground(model=two_passes), session, task)
    assert len(task.fractions) >= 3
    assert task.fractions == sorted(set(task.fractions))
    assert task.fractions[-1] == 1
