"""Decode: accepted formats, limits, shrink on load, colour profiles and pages."""

from __future__ import annotations

import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.processor import Encoded
from offloop.testing import InlineTask
from offloop_vips import AutoOrient, Blur, Decode, Jpeg, Raw, Resize, Webp
from offloop_vips.evaluation import Evaluation
from offloop_vips.pipeline import Pipeline
from offloop_vips.processor.loading import load_encoded

SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "avif": ".avif", "gif": ".gif", "tiff": ".tif"}
formats = pytest.mark.parametrize("name", SUFFIXES)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(64))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def noise() -> Any:
    return np.random.default_rng(8).integers(0, 256, (96, 128, 3), "u1")


def refusal(bench: Any, source: Any, *operations: Any) -> TaskFailed:
    with pytest.raises(TaskFailed) as failure:
        bench.run(source, *operations)
    return failure.value


@formats
def test_every_format_is_detected_by_content(bench: Any, smooth: Any, name: str):
    shown = bench.show(bench.file(smooth(64, 48), SUFFIXES[name]), Raw())
    assert shown.shape == (48, 64, 3)
    assert np.abs(shown - smooth(64, 48)).max() < 40


@pytest.mark.parametrize(
    ("name", "made"),
    [("jpeg", "jpeg"), ("png", "png"), ("webp", "webp"), ("avif", "avif"), ("gif", "png"), ("tiff", "png")],
)
def test_without_an_encoder_the_result_has_the_format_of_the_source(bench: Any, smooth: Any, name: str, made: str):
    result = bench.run(bench.file(smooth(64, 48), SUFFIXES[name]), Resize(32))
    assert (result.info["format"], result.info["width"], result.info["height"]) == (made, 32, 24)


@formats
def test_a_truncated_file_is_corrupt(bench: Any, name: str):
    source = bench.file(noise(), SUFFIXES[name])
    for operations in ([Raw()], [Resize(8), Jpeg()]):
        failure = refusal(bench, source[: len(source) // 2], *operations)
        assert failure.code == "corrupt_source"
        assert failure.message.startswith(f"the source is not a readable {name} file")
        assert len(failure.message) < 500
        assert "\n" not in failure.message


@formats
def test_a_signature_alone_is_corrupt(bench: Any, name: str):
    assert refusal(bench, bench.file(noise(), SUFFIXES[name])[:30], Raw()).code == "corrupt_source"


def test_fail_on_none_reads_a_truncated_file(bench: Any):
    source = bench.file(noise(), ".jpg")
    shown = bench.show(source[: len(source) // 2], Decode(fail_on="none"), Raw())
    whole = bench.show(source, Raw())
    assert (shown[:24] == whole[:24]).all()
    assert not (shown[64:] == whole[64:]).all()


def test_an_empty_source_is_corrupt(bench: Any):
    assert refusal(bench, b"").code == "corrupt_source"


@pytest.mark.parametrize(
    "source",
    [b"a text file that was named photo.jpg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", b"%PDF-1.7\n",
     b"BM" + bytes(60), b"P6 3 3 255\n" + bytes(27), b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), b"\xff", bytes(100)],
)  # fmt: skip
def test_an_unknown_format_is_refused(bench: Any, source: bytes):
    failure = refusal(bench, source)
    assert failure.code == "unsupported_format"
    assert source[:12].hex(" ") in failure.message


@formats
def test_a_format_that_decode_does_not_allow_is_refused(bench: Any, smooth: Any, name: Any):
    source = bench.file(smooth(8, 8), SUFFIXES[name])
    others: Any = tuple(other for other in SUFFIXES if other != name)
    failure = refusal(bench, source, Decode(formats=others))
    assert failure.code == "unsupported_format"
    assert f"the source is {name}" in failure.message
    assert bench.run(source, Decode(formats=(name,)), Raw()).shape[:2] == (8, 8)


def test_declared_pixels_are_checked_before_decoding(bench: Any):
    started = time.process_time()
    failure = refusal(bench, png_header(30_000, 30_000))
    assert failure.code == "too_many_pixels"
    assert "30000 x 30000 = 900,000,000 pixels, the limit is 210,000,000" in failure.message
    assert time.process_time() - started < 1  # decoding would take several


@formats
def test_the_pixel_limit_is_exact(bench: Any, smooth: Any, name: str):
    source = bench.file(smooth(64, 48), SUFFIXES[name])
    assert bench.run(source, Decode(max_pixels=64 * 48), Raw()).shape == (48, 64, 3)
    assert refusal(bench, source, Decode(max_pixels=64 * 48 - 1), Resize(4)).code == "too_many_pixels"


def loaded_size(source: bytes, *operations: Any) -> tuple[int, int]:
    pipeline = Pipeline.of(operations, encoded=True)
    name: Any = "webp" if source[:4] == b"RIFF" else "jpeg"
    picture = load_encoded(Encoded(memoryview(source)), name, pipeline, Evaluation(InlineTask()))
    return picture.page_size


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize(
    ("operations", "loaded"),
    [
        ((Resize(88, 66),), (100, 75)),
        ((Resize(89, 66),), (200, 150)),
        ((Resize(160),), (200, 150)),
        ((Resize(161),), (400, 300)),
        ((Resize(266),), (400, 300)),
        ((Resize(267),), (800, 600)),
        ((Resize(10),), (100, 75)),
        ((Resize(10, 100),), (200, 150)),  # cover scales to 133 x 100
        ((Resize(80, kernel="nearest"),), (800, 600)),
        ((Resize(100, 75, fast=True),), (100, 75)),
        ((Resize(101, 75, fast=True),), (200, 150)),
        ((Resize(211, fast=True),), (400, 300)),
        ((Resize(500, fast=True),), (800, 600)),
        ((), (800, 600)),
    ],
)
def test_the_decoder_shrinks_as_much_as_the_resize_allows(
    bench: Any, smooth: Any, suffix: str, operations: tuple[Any, ...], loaded: tuple[int, int]
):
    assert loaded_size(bench.file(smooth(800, 600), suffix), *operations) == loaded


def test_the_shrink_factor_follows_the_upright_size(bench: Any, smooth: Any):
    lying = bench.file(smooth(800, 600), ".jpg", 6)
    assert loaded_size(lying, Resize(66, 88)) == (100, 75)
    assert loaded_size(lying, Decode(auto_orient=False), Resize(66, 88)) == (200, 150)
    assert loaded_size(lying, Decode(auto_orient=False), AutoOrient(), Resize(66, 88)) == (100, 75)


def test_the_decoder_does_not_shrink_for_a_resize_that_is_not_first(bench: Any, smooth: Any):
    assert loaded_size(bench.file(smooth(800, 600), ".jpg"), Blur(), Resize(100)) == (800, 600)


def test_sixteen_bits_become_eight(bench: Any):
    deep = pyvips.Image.new_from_array(np.full((8, 8, 3), 0x8040, "u2")).copy(interpretation="rgb16")
    assert (bench.show(deep.write_to_buffer(".png"), Raw()) == 0x80).all()


def test_print_colours_become_screen_colours(bench: Any):
    red = bench.image(np.full((16, 16, 3), (150, 110, 100), "u1"))
    source = red.icc_transform("cmyk", input_profile="srgb").write_to_buffer(".jpg", Q=100)
    assert pyvips.Image.new_from_buffer(source, "").bands == 4
    assert bench.show(source, Raw())[8, 8] == pytest.approx([150, 110, 100], abs=12)


def test_an_embedded_profile_is_applied_and_a_broken_one_is_not(bench: Any):
    array = np.full((16, 16, 3), (60, 200, 60), "u1")
    wide = bench.image(array).icc_transform("p3", input_profile="srgb")
    source = wide.write_to_buffer(".png", profile="p3")
    assert np.abs(wide.numpy().astype(int) - array).max() > 5
    assert np.abs(bench.show(source, Raw()) - array).max() <= 2
    broken = bench.image(array).copy()
    broken.set_type(pyvips.GValue.blob_type, "icc-profile-data", b"no profile at all")
    assert (bench.show(broken.write_to_buffer(".png", keep="icc"), Raw()) == array).all()


def frames() -> list[Any]:
    return [np.full((20, 30, 3), (value, 0, 255 - value), "u1") for value in (0, 80, 160, 240)]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_by_default_the_first_frame_of_an_animation_is_read(bench: Any, suffix: str):
    source = bench.animation(frames(), suffix, [100, 200, 300, 400])
    first = bench.run(source, Raw())
    assert (first.shape[:2], first.info["pages"]) == ((20, 30), 1)
    assert bench.read(first)[0, 0, 0] == 0
    assert bench.show(source, Decode(page=2), Raw())[0, 0, 0] == pytest.approx(160, abs=3)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_every_step_is_applied_to_each_page(bench: Any, suffix: str):
    source = bench.animation(frames(), suffix, [100, 200, 300, 400])
    result = bench.run(source, Decode(page=1, pages=-1), Resize(20, 20, fit="contain", background="#fff"), Webp(lossless=True))
    assert (result.info["width"], result.info["height"], result.info["pages"]) == (20, 20, 3)
    made = pyvips.Image.new_from_buffer(bytes(result.data), "", n=-1)
    assert (made.height, made.get("page-height"), made.get("n-pages")) == (60, 20, 3)
    assert made.get("delay") == [200, 300, 400]
    assert made.get("loop") == 3
    rows = made.numpy()[:, 10, 0]
    for page, value in enumerate((80, 160, 240)):
        assert rows[page * 20] == rows[page * 20 + 19] == 255
        assert rows[page * 20 + 10] == pytest.approx(value, abs=3)


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_the_result_of_one_frame_is_not_an_animation(bench: Any, suffix: str):
    source = bench.animation(frames(), suffix, [100, 200, 300, 400])
    made = pyvips.Image.new_from_buffer(bytes(bench.run(source, Resize(60, 40), Webp()).data), "", n=-1)
    assert (made.width, made.height) == (60, 40)
    assert made.get_typeof("n-pages") == 0 or made.get("n-pages") == 1


def test_all_pages_count_against_the_pixel_limit(bench: Any):
    source = bench.animation(frames(), ".gif", [100, 200, 300, 400])
    assert bench.run(source, Decode(pages=4, max_pixels=2400), Raw()).shape[0] == 80
    assert "30 x 20 x 4 pages = 2,400" in refusal(bench, source, Decode(pages=-1, max_pixels=2399)).message


def test_invalid_uses_of_pages_are_refused(bench: Any, smooth: Any):
    source = bench.animation(frames(), ".gif", [100, 200, 300, 400])
    for operations in ([Decode(page=4)], [Decode(page=2, pages=3)], [Decode(pages=-1), Jpeg()],
                       [Decode(pages=-1), Resize(9, 9, position="attention")]):  # fmt: skip
        with pytest.raises(InvalidTask):
            bench.run(source, *operations)
    with pytest.raises(InvalidTask, match="pages 0 to 0"):
        bench.run(bench.file(smooth(8, 8), ".jpg"), Decode(page=1))


@pytest.mark.parametrize(
    "parameters",
    [
        {"max_pixels": 0},
        {"formats": ("svg",)},
        {"formats": ()},
        {"fail_on": "never"},
        {"page": -1},
        {"pages": 0},
        {"pages": -2},
    ],
)
def test_invalid_parameters_are_refused(parameters: dict[str, Any]):
    with pytest.raises(InvalidTask, match="Decode"):
        Decode(**parameters)
