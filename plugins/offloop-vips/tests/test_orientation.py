"""EXIF orientation, with and without shrink-on-load, early and late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from offloop_vips import AutoOrient, Decode, Grayscale, Raw, Resize

# orientation tag -> transformation of an upright picture that the tag reverses
STORED: dict[int, Callable[[Any], Any]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: np.rot90,
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
orientations = pytest.mark.parametrize("orientation", range(1, 9))


def stored(bench: Any, array: Any, orientation: int, suffix: str = ".jpg") -> bytes:
    options = {"lossless": True} if suffix == ".webp" else {"Q": 95, "subsample_mode": "off"}
    return bench.file(np.ascontiguousarray(STORED[orientation](array)), suffix, orientation, **options)


def difference(one: Any, other: Any) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


def with_late_exif(jpeg: bytes) -> bytes:
    """Returns the file with its EXIF after more comments than the header parser reads, and before the scan."""
    start = jpeg.index(b"Exif\0\0") - 4
    end = start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big")
    scan = jpeg.index(b"\xff\xda")
    comments = (b"\xff\xfe\xff\xff" + bytes(65_533)) * 5
    return jpeg[:start] + jpeg[end:scan] + comments + jpeg[start:end] + jpeg[scan:]


@orientations
def test_a_picture_is_decoded_upright(bench: Any, smooth: Any, orientation: int):
    upright = smooth(96, 64)
    assert difference(bench.show(stored(bench, upright, orientation), Raw()), upright) < 12


@orientations
def test_every_orientation_gives_the_same_resized_picture(bench: Any, smooth: Any, orientation: int):
    upright = smooth(96, 64)
    shown = bench.show(stored(bench, upright, orientation), Resize(50, 60, position="right"), Raw())
    assert difference(shown, bench.show(upright, Resize(50, 60, position="right"))) < 16


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@orientations
def test_every_orientation_gives_the_same_picture_with_shrink_on_load(bench: Any, smooth: Any, orientation: int, suffix: str):
    upright = smooth(803, 404)  # no multiple of anything
    source = stored(bench, upright, orientation, suffix)
    for resize in (Resize(100), Resize(None, 77), Resize(60, 90, position="left top"), Resize(90, 90, fit="contain")):
        assert difference(bench.show(source, resize, Raw()), bench.show(upright, resize)) < 16


@orientations
def test_an_orientation_that_only_the_decoder_finds_counts(bench: Any, smooth: Any, orientation: int):
    source = stored(bench, smooth(803, 404), orientation)
    for resize in (Resize(100), Resize(None, 77), Resize(60, 90, position="left top")):
        assert difference(bench.show(with_late_exif(source), resize, Raw()), bench.show(source, resize, Raw())) == 0


def test_decoding_without_auto_orient_keeps_the_stored_orientation(bench: Any, smooth: Any):
    upright = smooth(96, 64)
    source = stored(bench, upright, 6)
    sideways = bench.show(source, Decode(auto_orient=False), Raw())
    assert sideways.shape == (96, 64, 3)
    assert bench.show(source, Decode(auto_orient=False), Resize(32), Raw()).shape == (48, 32, 3)


def test_auto_orient_is_applied_at_its_position_in_the_pipeline(bench: Any, smooth: Any):
    upright = smooth(96, 64)
    source = stored(bench, upright, 6)
    decode = Decode(auto_orient=False)
    assert difference(bench.show(source, decode, AutoOrient(), Raw()), upright) < 12
    assert bench.show(source, decode, AutoOrient(), Resize(32, 48, fit="fill"), Raw()).shape == (48, 32, 3)
    assert bench.show(source, decode, Resize(32, 48, fit="fill"), AutoOrient(), Raw()).shape == (32, 48, 3)
    assert difference(bench.show(source, decode, AutoOrient(), Grayscale(), Raw()), bench.show(source, Grayscale(), Raw())) == 0


def test_a_second_auto_orient_has_no_effect(bench: Any, smooth: Any):
    source = stored(bench, smooth(96, 64), 8)
    assert (bench.show(source, AutoOrient(), AutoOrient(), Raw()) == bench.show(source, Raw())).all()


def test_the_result_has_no_orientation_tag(bench: Any, smooth: Any):
    source = stored(bench, smooth(96, 64), 6)
    again = bench.run(bytes(bench.run(source).data), Raw())
    assert again.shape == (64, 96, 3)


def test_auto_orient_keeps_a_picture_without_a_tag(bench: Any, smooth: Any):
    array = smooth(30, 20)
    assert (bench.show(array, AutoOrient()) == array).all()
