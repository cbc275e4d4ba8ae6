"""Resize: exact sizes, crops and backgrounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offloop.errors import InvalidTask, TaskFailed
from offloop_vips import Decode, Raw, Resize, Rotate
from offloop_vips.geometry import Size, fit_size

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.none() | st.integers(1, 150),
    st.integers(1, 150),
    st.sampled_from(["cover", "contain", "fill", "inside", "outside"]),
    st.sampled_from(["lanczos3", "nearest", "cubic"]),
)
def test_the_size_is_the_computed_one(
    bench: Any, width: int, height: int, to_width: int | None, to_height: int, fit: Any, kernel: Any
):
    shown = bench.show(np.zeros((height, width, 1), "u1"), Resize(to_width, to_height, fit=fit, kernel=kernel))
    canvas = fit_size(Size(width, height), to_width, to_height, fit=fit).canvas
    assert shown.shape == (canvas.height, canvas.width, 1)


@pytest.mark.parametrize("kernel", ["nearest", "linear", "cubic", "mitchell", "lanczos2", "lanczos3"])
def test_every_kernel_keeps_the_picture(bench: Any, quarters: Any, kernel: Any):
    shown = bench.show(quarters, Resize(30, 20, kernel=kernel))
    assert [tuple(shown[y, x]) for y, x in ((4, 4), (4, 25), (15, 4), (15, 25))] == [RED, GREEN, BLUE, WHITE]


def test_kernels_differ(bench: Any):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 1), "u1")
    kernels = ("nearest", "linear", "cubic", "mitchell", "lanczos2", "lanczos3")
    assert len({bench.show(noise, Resize(20, kernel=kernel)).tobytes() for kernel in kernels}) == len(kernels)


@pytest.mark.parametrize(
    ("position", "colours"),
    [("left top", {RED}), ("northeast", {GREEN}), ("southwest", {BLUE}), ("right bottom", {WHITE}), ("top", {RED, GREEN})],
)
def test_cover_keeps_the_part_that_position_names(bench: Any, quarters: Any, position: Any, colours: set[Any]):
    shown = bench.show(quarters, Resize(30, 20, position=position, without_reduction=True))
    assert {tuple(map(int, pixel)) for pixel in shown.reshape(-1, 3)} == colours


def test_contain_embeds_the_picture_at_the_position(bench: Any, quarters: Any):
    shown = bench.show(quarters, Resize(60, 60, fit="contain", position="south", background="#123"))
    assert (shown[:20] == (0x11, 0x22, 0x33)).all()
    assert (shown[20:] == quarters).all()


def test_a_transparent_background_adds_alpha(bench: Any, quarters: Any):
    shown = bench.show(quarters, Resize(60, 60, fit="contain", background=(255, 255, 0, 0.5)))
    assert shown.shape == (60, 60, 4)
    assert (shown[:10] == (255, 255, 0, 128)).all() or (shown[:10] == (255, 255, 0, 127)).all()
    assert (shown[10:50, :, 3] == 255).all()


def test_a_coloured_background_makes_a_grey_picture_coloured(bench: Any):
    shown = bench.show(np.full((10, 20, 1), 77, "u1"), Resize(20, 20, fit="contain", background="red"))
    assert tuple(shown[0, 0]) == RED
    assert tuple(shown[10, 10]) == (77, 77, 77)
    assert bench.show(np.full((10, 20, 1), 77, "u1"), Resize(20, 20, fit="contain", background="grey")).shape == (20, 20, 1)


def test_edges_of_transparency_have_no_dark_halo(bench: Any):
    array = np.zeros((64, 64, 4), "u1")  # transparent black ...
    array[:, 32:] = (255, 255, 255, 255)  # ... beside opaque white
    shown = bench.show(array, Resize(21, 21))
    edge = shown[(shown[:, :, 3] > 10) & (shown[:, :, 3] < 245)]
    assert len(edge) > 0
    assert edge[:, :3].min() > 245


@pytest.mark.parametrize("strategy", ["attention", "entropy"])
@pytest.mark.parametrize("place", [20, 150, 280])
def test_a_strategy_keeps_the_salient_part(bench: Any, strategy: Any, place: int):
    array = np.full((80, 400, 3), 40, "u1")
    busy = np.random.default_rng(2).integers(0, 256, (40, 40, 1), "u1")
    array[20:60, place : place + 40] = np.concatenate([busy // 4 + 190, busy // 2 + 60, busy // 4], axis=2)
    result = bench.run(array, Resize(80, 80, position=strategy))
    left, top = result.info["crop_left"], result.info["crop_top"]
    assert left <= place
    assert place + 40 <= left + 80
    assert (bench.read(result) == array[top : top + 80, left : left + 80]).all()


def test_a_gravity_adds_no_crop_to_info(bench: Any, quarters: Any):
    assert "crop_left" not in bench.run(quarters, Resize(20, 20)).info


def test_operations_are_applied_in_the_given_order(bench: Any, quarters: Any):
    resized_first = bench.show(quarters, Resize(30, 10, fit="fill"), Rotate(90))
    rotated_first = bench.show(quarters, Rotate(90), Resize(30, 10, fit="fill"))
    assert resized_first.shape == (30, 10, 3)
    assert rotated_first.shape == (10, 30, 3)
    for shown in (resized_first, rotated_first):
        assert tuple(shown[2, 2]) == pytest.approx(BLUE, abs=8)  # the bottom left quarter before


@pytest.mark.parametrize(
    "resize",
    [Resize(100_000, 100_000), Resize(100_000), Resize(1_000, 10_000_000, fit="contain")],
)
def test_a_resize_beyond_the_pixel_limit_is_refused(bench: Any, quarters: Any, resize: Resize):
    with pytest.raises(TaskFailed, match=r"the limit is 210,000,000") as failure:
        bench.run(quarters, resize)
    assert failure.value.code == "too_many_pixels"


def test_the_scaled_picture_before_a_strategy_crop_counts_against_the_limit(bench: Any):
    with pytest.raises(TaskFailed, match=r"1000 x 2000000 = 2,000,000,000 pixels"):
        bench.run(np.zeros((2000, 1, 1), "u1"), Resize(1000, 10, position="attention"))


def test_decode_sets_the_limit_for_resizing(bench: Any, quarters: Any):
    source = bench.file(quarters, ".png")
    assert bench.show(source, Decode(max_pixels=10_000), Resize(100, 100), Raw()).shape == (100, 100, 3)  # 150 x 100, cropped
    with pytest.raises(TaskFailed, match="10,201 pixels"):
        bench.run(source, Decode(max_pixels=10_000), Resize(101, 101))


@pytest.mark.parametrize(
    "parameters",
    [{"width": -1}, {"width": 0}, {"width": 1.5}, {"width": "10"}, {"width": True}, {"height": -5}, {"width": 10_000_001}, {},
     {"width": 1, "fit": "crop"}, {"width": 1, "position": "middle"}, {"width": 1, "kernel": "box"},
     {"width": 1, "position": "attention", "fit": "contain"}, {"width": 1, "without_enlargement": 1}],
)  # fmt: skip
def test_invalid_parameters_are_refused(parameters: dict[str, Any]):
    with pytest.raises(InvalidTask, match="Resize"):
        Resize(**parameters)
