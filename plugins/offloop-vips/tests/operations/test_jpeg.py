"""JPEG encoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop_vips import Jpeg, Resize


def test_the_file_agrees_with_its_info(bench: Any, smooth: Any):
    result = bench.run(smooth(90, 60), Jpeg())
    assert bytes(result.data[:3]) == b"\xff\xd8\xff"
    assert result.info == {
        "media_type": "image/jpeg",
        "format": "jpeg",
        "width": 90,
        "height": 60,
        "bands": 3,
        "pages": 1,
        "colour_space": "sRGB",
    }
    assert np.abs(bench.read(result).astype(int) - smooth(90, 60)).max() < 20


def noise() -> Any:
    return np.random.default_rng(3).integers(0, 256, (64, 96, 3), "u1")


def test_every_option_changes_the_file(bench: Any):
    options = (Jpeg(), Jpeg(quality=30), Jpeg(progressive=True), Jpeg(chroma_subsampling="4:4:4"), Jpeg(optimise_coding=False),
               Jpeg(mozjpeg=True))  # fmt: skip
    assert len({bytes(bench.run(noise(), option).data) for option in options}) == len(options)


def test_each_option_has_its_effect(bench: Any, smooth: Any):
    def saved(option: Jpeg, array: Any) -> Any:
        return pyvips.Image.new_from_buffer(bytes(bench.run(array, option).data), "")

    assert saved(Jpeg(), noise()).get("jpeg-chroma-subsample") == "4:2:0"
    assert saved(Jpeg(chroma_subsampling="4:4:4"), noise()).get("jpeg-chroma-subsample") == "4:4:4"
    assert saved(Jpeg(progressive=True), noise()).get("jpeg-multiscan") == 1
    assert saved(Jpeg(mozjpeg=True), noise()).get("jpeg-multiscan") == 1
    assert len(bench.run(noise(), Jpeg(quality=30)).data) < len(bench.run(noise(), Jpeg()).data)
    assert len(bench.run(smooth(200, 200), Jpeg(mozjpeg=True)).data) < len(bench.run(smooth(200, 200), Jpeg()).data)


def test_transparent_parts_show_the_background(bench: Any):
    clear = np.zeros((16, 16, 4), "u1")
    assert bench.show(clear, Jpeg())[8, 8] == pytest.approx([0, 0, 0], abs=3)
    assert bench.show(clear, Jpeg(background="#204060"))[8, 8] == pytest.approx([32, 64, 96], abs=4)
    assert bench.show(clear[:, :, :2].copy(), Jpeg(background="red"))[8, 8] == pytest.approx([255, 0, 0], abs=4)
    assert bench.show(clear[:, :, :2].copy(), Jpeg(background="white")).shape == (16, 16, 1)


def test_metadata_is_dropped(bench: Any, smooth: Any):
    image = bench.image(smooth(20, 20)).copy()
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Copyright", "a private address")
    source = image.write_to_buffer(".jpg")
    assert b"private" in source
    assert b"private" not in bytes(bench.run(source, Jpeg()).data)


def test_a_side_beyond_the_limit_of_the_format_is_refused(bench: Any):
    with pytest.raises(TaskFailed, match="65,535 a side") as failure:
        bench.run(np.zeros((1, 4, 1), "u1"), Resize(70_000, 1, fit="fill"), Jpeg())
    assert failure.value.code == "processing_failed"


@pytest.mark.parametrize(
    "parameters",
    [{"quality": 0}, {"quality": 101}, {"quality": 80.5}, {"chroma_subsampling": "4:2:2"}, {"progressive": "yes"},
     {"background": "transparent"}],
)  # fmt: skip
def test_invalid_parameters_are_refused(parameters: dict[str, Any]):
    with pytest.raises(InvalidTask, match="Jpeg"):
        Jpeg(**parameters)
