"""The eight orientations in every format that can declare one, and sides of one pixel, odd ones, and the longest ones."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from offloop.errors import TaskFailed
from offloop_vips import Avif, Decode, Gif, Jpeg, Png, Raw, Resize, Tiff, VipsPlugin, Webp

from .test_orientation import STORED

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 97, "subsampling": 0},
    "WEBP": {"lossless": True},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
}
ORIENTATION = 0x112
SIDES = ((1, 1), (1, 40), (40, 1), (2, 3), (37, 23), (101, 67), (64, 33))
TARGETS = (1, 2, 7, 20, 33, 64, 150)


def file(array: Any, name: str, orientation: int | None = None) -> bytes:
    """Returns a file as Pillow writes it: in an AVIF the orientation is `irot` and `imir`, in the others it is EXIF."""
    made, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    Image.fromarray(np.ascontiguousarray(array)).save(made, name, exif=exif, **OPTIONS.get(name, {}))
    return made.getvalue()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_format_is_upright_and_its_header_says_so(bench: Any, smooth: Any, name: str, orientation: int):
    upright = smooth(96, 64)
    data = file(STORED[orientation](upright), name, orientation)
    header = VipsPlugin().probe(memoryview(data))
    assert header is not None
    assert (header.width, header.height) == ((96, 64) if orientation < 5 else (64, 96))
    assert (header.orientation or 1) == orientation
    assert np.abs(bench.show(data, Raw()) - upright).max() < 12
    resize = Resize(50, 60, position="left top")
    assert np.abs(bench.show(data, resize, Raw()) - bench.show(upright, resize)).max() < 16
    stored = bench.show(data, Decode(auto_orient=False), Raw())
    assert stored.shape[:2] == ((64, 96) if orientation < 5 or name == "AVIF" else (96, 64))


def test_exif_in_an_avif_turns_nothing(bench: Any, smooth: Any):
    upright = smooth(96, 64)
    made = bench.image(upright).copy()
    made.set_type(pyvips.GValue.gint_type, "orientation", 6)
    data = bytearray(made.heifsave_buffer(compression="av1", Q=95, subsample_mode="off", keep="exif", effort=0))
    assert bench.show(bytes(data), Raw()).shape == (96, 64, 3)
    data[data.index(b"irot") + 4] = 0  # EXIF alone says that the picture is turned
    assert np.abs(bench.show(bytes(data), Raw()) - upright).max() < 12
    header = VipsPlugin().probe(memoryview(bytes(data)))
    assert header is not None
    assert (header.width, header.height, header.orientation or 1) == (96, 64, 1)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("orientation", [None, 3, 6])
def test_every_target_is_within_a_pixel_of_the_ideal_and_the_same_for_each_format(
    bench: Any, smooth: Any, side: tuple[int, int], orientation: int | None
):
    width, height = side
    stored = STORED[orientation or 1](smooth(width, height))
    files = {name: file(stored, name, orientation) for name in FORMATS}
    if orientation is None:
        files["GIF"] = file(stored, "GIF")
    for target in TARGETS:
        for resize, ideal in (
            (Resize(target), (max(height * target / width, 1), target)),
            (Resize(None, target), (target, max(width * target / height, 1))),
        ):
            shapes = {name: bench.show(data, resize, Raw()).shape[:2] for name, data in files.items()}
            assert len(set(shapes.values())) == 1, shapes
            rows, columns = shapes["PNG"]
            assert abs(rows - ideal[0]) <= 1
            assert abs(columns - ideal[1]) <= 1
            assert target in (rows, columns)


@pytest.mark.parametrize("size", [(65_500, 1), (65_500, 3), (3, 65_500), (1, 65_500)])
def test_the_longest_sides_are_read_resized_and_written(bench: Any, smooth: Any, size: tuple[int, int]):
    width, height = size
    array = smooth(width, height)
    for name in ("JPEG", "PNG", "TIFF", "GIF"):
        data = file(array, name)
        assert bench.show(data, Raw()).shape[:2] == (height, width)
        shape = bench.show(data, Resize(1000, 1000, fit="inside"), Raw()).shape[:2]
        assert max(shape) == 1000
        assert min(shape) == 1
    for encoder in (Jpeg(), Png(), Tiff(compression="lzw")):
        assert bench.read(bench.run(array, encoder)).shape[:2] == (height, width)
    for encoder in (Webp(), Avif()):
        with pytest.raises(TaskFailed, match="do not fit"):
            bench.run(array, encoder)


def test_a_jpeg_and_a_gif_of_more_than_their_longest_side_are_refused(bench: Any):
    for encoder in (Jpeg(), Gif()):
        with pytest.raises(TaskFailed, match="do not fit"):
            bench.run(np.zeros((1, 65_536, 3), "u1"), encoder)
