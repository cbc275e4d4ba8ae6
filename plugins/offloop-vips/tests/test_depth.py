"""Samples of more than 8 bits: kept through all steps, and refused where their white is unknown."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import InvalidTask, TaskFailed
from offloop.operation import Operation
from offloop_vips import Avif, Blur, Decode, Grayscale, Jpeg, Png, Raw, Resize, Rotate, Sharpen, Tint, Webp


def deep_png(array: Any) -> bytes:
    names = {1: "grey16", 2: "grey16", 3: "rgb16", 4: "rgb16"}
    return pyvips.Image.new_from_array(array).copy(interpretation=names[array.shape[2]]).pngsave_buffer()


def ramp(bands: int = 3) -> Any:
    """A gradient from 20000 to 30000 over 2048 columns, of which 8 bits have 39 steps."""
    row = np.linspace(20_000, 30_000, 2048).round().astype("u2")
    return np.repeat(np.repeat(row[None, :, None], 16, axis=0), bands, axis=2)


def tiff(array: Any, photometric: int, extra: tuple[int, ...] = (), sample_format: int = 1) -> bytes:
    """Returns an uncompressed TIFF; libvips does not write all kinds."""
    height, width, bands = array.shape
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    entries = [(256, width), (257, height), (258, array.itemsize * 8), (259, 1), (262, photometric), (273, None), (277, bands),
               (278, height), (279, len(data)), (339, sample_format)]  # fmt: skip
    if extra:
        entries.append((338, extra))
    entries.sort(key=lambda entry: entry[0])
    extras_at = 8 + 2 + 12 * len(entries) + 4
    wide = {258: (array.itemsize * 8,) * bands, 339: (sample_format,) * bands, 338: extra}
    blob, directory = b"", struct.pack("<H", len(entries))
    values: dict[int, bytes] = {}
    for tag, _ in entries:
        if tag in wide and 2 * len(wide[tag]) > 4:
            values[tag] = struct.pack("<I", extras_at + len(blob))
            blob += struct.pack(f"<{len(wide[tag])}H", *wide[tag])
    for tag, value in entries:
        if tag in wide:
            packed = values.get(tag) or struct.pack(f"<{len(wide[tag])}H", *wide[tag]).ljust(4, b"\0")
            directory += struct.pack("<HHI", tag, 3, len(wide[tag])) + packed
        else:
            directory += struct.pack("<HHII", tag, 4, 1, extras_at + len(blob) if value is None else value)
    start = b"II*\0" + struct.pack("<I", 8) + directory + bytes(4)
    file = start + blob
    offset = len(file)
    return file.replace(struct.pack("<HHI", 273, 4, 1) + struct.pack("<I", extras_at + len(blob)),
                        struct.pack("<HHI", 273, 4, 1) + struct.pack("<I", offset), 1) + data  # fmt: skip


def filled(*sample: float, dtype: str) -> Any:
    return np.full((16, 16, len(sample)), sample, dtype)


@pytest.mark.parametrize(
    "step",
    [Blur(), Blur(2), Sharpen(), Sharpen(1), Sharpen(1, m1=3), Resize(1024, 16, fit="fill"), Resize(3000, 16, fit="fill"),
     Rotate(180), Rotate(360), Grayscale()],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_a_gradient_of_16_bits_has_no_bands_after_a_step(bench: Any, step: Operation, bands: int):
    array = ramp(bands)
    if bands == 4:
        array[..., 3] = 40_000
    shown = bench.show(deep_png(array), step, Raw("uint16"))
    row = np.sort(shown[8, 20:-20, 0])
    assert np.diff(row).max() <= 32, "a step of 8 bits would be 257"
    eight = bench.show(deep_png(array), step, Raw())[8, 20:-20, 0]
    backward = np.diff(eight if eight[0] < eight[-1] else eight[::-1])
    assert backward.min() >= 0, "no step back"
    assert backward.max() <= 1


def test_tints_and_backgrounds_have_the_same_colours_in_16_bits(bench: Any, quarters: Any):
    for steps in ([Tint("tomato")], [Resize(80, 80, fit="contain", background="#1234")], [Rotate(30, background="teal")]):
        eight, deep = (bench.show(source, *steps, Raw()) for source in (quarters, quarters.astype("u2") * 257))
        assert np.abs(eight - deep).max() <= 1


@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_samples_of_16_bits_are_kept_exactly(bench: Any, bands: int):
    array = np.random.default_rng(2).integers(0, 65_536, (20, 30, bands), "u2")
    assert (bench.show(deep_png(array), Raw("uint16")) == array).all()
    assert (bench.show(array, Raw("uint16")) == array).all()
    assert (bench.show(deep_png(array), Png(bitdepth=16)) == array).all()
    assert np.abs(bench.show(deep_png(array), Raw("float32")) - array / 257).max() < 1e-4
    assert (bench.show(deep_png(array), Raw()) == (array / 257).round()).all()
    assert (bench.show(deep_png(array), Png()) == (array / 257).round()).all()


def test_eight_bits_become_sixteen_on_request(bench: Any, quarters: Any):
    assert (bench.show(quarters, Png(bitdepth=16)) == quarters.astype(int) * 257).all()
    assert bench.run(quarters, Raw("uint16")).dtype.endswith("u2")


@pytest.mark.parametrize("encoder", [Jpeg(), Webp(), Avif(), Avif(bitdepth=10), Png(palette=True)], ids=repr)
def test_every_encoder_takes_sixteen_bits(bench: Any, encoder: Any):
    shown = bench.show(deep_png(filled(51_400, 25_700, 12_850, dtype="u2")), encoder)
    white = 65_472 if shown.max() > 255 else 255
    assert shown[8, 8] / white * 255 == pytest.approx([200, 100, 50], abs=4)


def test_white_of_a_ten_bit_avif_is_white(bench: Any):
    source = bytes(bench.run(filled(255, 255, 255, dtype="u1"), Avif(bitdepth=10, lossless=True, effort=0)).data)
    assert (bench.show(source, Raw("uint16")) == 65_535).all()


@pytest.mark.parametrize(
    ("array", "photometric", "options", "expected"),
    [
        (filled(2**31, 2**30, 2**32 - 1, dtype="u4"), 2, {}, [128, 64, 255]),
        (filled(2**31, dtype="u4"), 1, {}, [128]),
        (filled(30_000, dtype="u2"), 1, {}, [117]),
        (filled(30_000, 20_000, dtype="u2"), 1, {"extra": (2,)}, [117, 78]),
        (filled(55, 155, 205, 0, dtype="u1"), 5, {}, [192, 105, 58]),
        (filled(55, 155, 205, 0, 128, dtype="u1"), 5, {"extra": (2,)}, [192, 105, 58, 128]),
        (filled(55 * 257, 155 * 257, 205 * 257, 0, 128 * 257, dtype="u2"), 5, {"extra": (2,)}, [192, 105, 58, 128]),
        (filled(200, 100, 50, 128, 60, dtype="u1"), 2, {"extra": (2, 0)}, [200, 100, 50, 128]),
        (filled(100, 50, 25, 128, dtype="u1"), 2, {"extra": (1,)}, [199, 99, 49, 128]),
        (filled(38_550, 5_140, 60_652, dtype="u2"), 8, {}, [161, 131, 175]),
    ],
)  # fmt: skip
def test_bands_and_samples_of_a_tiff_have_their_meaning(
    bench: Any, array: Any, photometric: int, options: dict[str, Any], expected: list[int]
):
    source = tiff(array, photometric, **options)
    assert bench.show(source, Raw())[8, 8] == pytest.approx(expected, abs=2)
    alpha = expected[-1] / 255 if len(expected) in (2, 4) else 1
    colours = expected[:-1] if len(expected) in (2, 4) else expected
    shown = bench.show(source, Rotate(33), Resize(20, 8, fit="contain", background="red"), Jpeg(quality=100))
    assert shown.shape[:2] == (8, 20)
    assert bench.show(source, Jpeg(quality=100))[8, 8] == pytest.approx([colour * alpha for colour in colours], abs=4)


@pytest.mark.parametrize(
    ("array", "photometric", "options", "reason"),
    [
        (filled(0.5, 0.5, 0.5, dtype="f4"), 2, {"sample_format": 3}, "float"),
        (filled(0.5, dtype="f4"), 1, {"sample_format": 3}, "float"),
        (filled(-5, dtype="i2"), 1, {"sample_format": 2}, "short"),
        (filled(5, dtype="i1"), 1, {"sample_format": 2}, "char"),
        (filled(*range(7), dtype="u1"), 1, {"extra": (0,) * 6}, "7 bands"),
        (filled(200, 100, 50, 128, 60, dtype="u1"), 2, {"extra": (0, 0)}, "5 bands"),
    ],
)  # fmt: skip
def test_samples_without_a_known_white_are_refused_with_the_reason(
    bench: Any, array: Any, photometric: int, options: dict[str, Any], reason: str
):
    with pytest.raises(TaskFailed, match=reason) as failure:
        bench.run(tiff(array, photometric, **options), Decode(), Jpeg())
    assert failure.value.code == "unsupported_format"


def test_a_palette_has_eight_bits():
    with pytest.raises(InvalidTask, match="palette"):
        Png(palette=True, bitdepth=16)
