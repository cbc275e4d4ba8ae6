"""Header parser: coding, pages and orientation of every format, and bounded work on hostile files."""

from __future__ import annotations

import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
import pyvips
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from offloop.errors import TaskFailed
from offloop_vips import Decode, Raw, VipsPlugin
from offloop_vips.headers.parser import MAX_BLOCKS, MAX_CHUNKS, MAX_MARKERS, VipsHeader

from .avif_files import box, clap, with_properties

NBYTES = VipsPlugin.probe_nbytes
META = b"\0\0\0\x18ftypavif\0\0\0\0avifmif1"


def probe(data: bytes) -> VipsHeader | None:
    header = VipsPlugin().probe(memoryview(data[:NBYTES]))
    assert header is None or isinstance(header, VipsHeader)
    return header


def read(data: bytes) -> VipsHeader:
    header = probe(data)
    assert header is not None
    return header


def noise(width: int, height: int, bands: int = 3) -> Any:
    return np.random.default_rng(5).integers(0, 256, (height, width, bands), "u1")


@pytest.mark.parametrize(
    ("options", "progressive", "samples"),
    [
        ({"subsample_mode": "on"}, False, 1.5),
        ({"subsample_mode": "off"}, False, 3),
        ({"interlace": True, "subsample_mode": "on"}, True, 1.5),
        ({"interlace": True, "subsample_mode": "off"}, True, 3),
    ],
)
def test_the_header_of_a_jpeg_has_progressive_and_samples_per_pixel(
    bench: Any, smooth: Any, options: dict[str, Any], progressive: bool, samples: float
):
    header = read(bench.file(smooth(70, 40), ".jpg", **options))
    assert (header.progressive, header.samples_per_pixel, header.bits, header.pages) == (progressive, samples, 8, 1)


def test_a_baseline_jpeg_with_a_scan_for_each_band_counts_as_progressive(bench: Any, smooth: Any):
    source = bytearray(bench.file(smooth(70, 40), ".jpg"))
    scan = source.index(b"\xff\xda")
    assert source[scan + 4] == 3
    assert read(bytes(source)).progressive is False
    source[scan : scan + 14] = b"\xff\xda\0\x08\x01\x01\x00\x00\x3f\x00"
    assert read(bytes(source)).progressive is True


@pytest.mark.parametrize(
    ("bands", "options", "expected"),
    [
        (3, {}, (3, 8, False)),
        (4, {}, (4, 8, False)),
        (1, {}, (1, 8, False)),
        (2, {}, (2, 8, False)),
        (3, {"interlace": True}, (3, 8, True)),
        (3, {"palette": True}, (3, 8, False)),
        (4, {"palette": True}, (4, 8, False)),
    ],
)
def test_the_header_of_a_png_has_bands_depth_and_interlacing(
    bench: Any, smooth: Any, bands: int, options: dict[str, Any], expected: Any
):
    picture = smooth(70, 40, bands) if bands in (1, 3) else noise(70, 40, bands)
    header = read(bench.file(picture, ".png", **options))
    assert (header.bands, header.bits, header.progressive) == expected


def test_the_header_of_a_png_has_sixteen_bits():
    deep = pyvips.Image.new_from_array(noise(70, 40).astype("u2") * 257).copy(interpretation="rgb16")
    assert read(deep.pngsave_buffer()).bits == 16


@pytest.mark.parametrize(
    ("bands", "options", "expected"),
    [(3, {}, (3, False)), (4, {}, (4, False)), (3, {"lossless": True}, (3, True)), (4, {"lossless": True}, (4, True))],
)
def test_the_header_of_a_webp_has_alpha_and_lossless(bench: Any, bands: int, options: dict[str, Any], expected: Any):
    header = read(bench.file(noise(70, 40, bands), ".webp", **options))
    assert (header.bands, header.lossless) == expected


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
@pytest.mark.parametrize("number", [1, 2, 7])
def test_frames_are_counted(bench: Any, suffix: str, number: int):
    frames = [noise(40, 30) for _ in range(number)]
    for index, frame in enumerate(frames):
        frame[:10] = index * 30
    header = read(bench.animation(frames, suffix, [100] * number))
    assert (header.width, header.height, header.pages) == (40, 30, number)


@pytest.mark.parametrize(("suffix", "effort"), [(".gif", 1), (".webp", 0)])
def test_if_not_all_frames_were_read_the_header_has_the_mean_size_of_a_frame(bench: Any, suffix: str, effort: int):
    roll = bench.image(np.concatenate([np.roll(noise(200, 200), index * 7, axis=0) for index in range(16)]))
    roll.set_type(pyvips.GValue.gint_type, "page-height", 200)
    source = roll.write_to_buffer(suffix, effort=effort)
    header = read(source)
    assert len(source) > NBYTES
    assert header.pages is None
    assert header.page_nbytes == pytest.approx(len(source) / 16, rel=0.5)


def test_the_pages_of_a_tiff_are_counted(tmp_path: Any):
    pages = pyvips.Image.new_from_array(np.concatenate([noise(40, 30)] * 5)).copy(interpretation="srgb")
    source = pages.tiffsave_buffer(page_height=30)
    assert read(source).pages == 5
    assert read(pages.tiffsave_buffer(page_height=30, bigtiff=True)).pages == 5


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"subsample_mode": "on"}, (8, 1.5, 3)),
        ({"subsample_mode": "off"}, (8, 3.0, 3)),
        ({"bitdepth": 10, "subsample_mode": "off"}, (10, 3.0, 3)),
        ({"bitdepth": 12, "subsample_mode": "off"}, (12, 3.0, 3)),
    ],
)
def test_the_header_of_an_avif_has_depth_and_samples_per_pixel(bench: Any, smooth: Any, options: Any, expected: Any):
    header = read(bench.image(smooth(70, 40)).heifsave_buffer(compression="av1", effort=0, **options))
    assert (header.bits, header.samples_per_pixel, header.bands) == expected
    assert read(bench.file(noise(70, 40, 4), ".avif", effort=0)).bands == 4


def avif(properties: list[bytes], associations: bytes, *more: bytes, primary: int = 1) -> bytes:
    """Returns the start of an AVIF. `associations` is the body of `ipma`: for each item the numbers of its properties."""
    iprp = box(b"iprp", box(b"ipco", *properties), box(b"ipma", associations))
    return META + box(b"meta", bytes(4), box(b"pitm", bytes(4), struct.pack(">H", primary)), *more, iprp)


AV1C = box(b"av1C", b"\x81\0\x0c\0")
ONE_ITEM = struct.pack(">IIHBBBBB", 0, 1, 1, 4, 1, 2, 3, 4)
TWO_ITEMS = struct.pack(">IIHBBBHBBB", 0, 2, 1, 2, 1, 3, 2, 2, 2, 3)


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", struct.pack(">III", 0, width, height))


@pytest.mark.parametrize(
    ("quarters", "axis", "orientation"),
    [(0, None, 1), (0, 1, 2), (2, None, 3), (0, 0, 4), (1, 0, 5), (3, None, 6), (3, 0, 7), (1, None, 8)],
)
def test_the_header_of_a_rotated_avif_has_stored_size_and_orientation(quarters: int, axis: int | None, orientation: int):
    mirror = box(b"free") if axis is None else box(b"imir", bytes([axis]))
    header = read(avif([ispe(96, 64), AV1C, box(b"irot", bytes([quarters])), mirror], ONE_ITEM))
    assert (header.width, header.height, header.orientation) == (96, 64, orientation)


@pytest.mark.parametrize(("primary", "size"), [(1, (96, 64)), (2, (4000, 3000))])
def test_the_size_of_an_avif_is_that_of_its_primary_item(primary: int, size: tuple[int, int]):
    header = read(avif([ispe(96, 64), ispe(4000, 3000), AV1C], TWO_ITEMS, primary=primary))
    assert (header.width, header.height) == size


def turned(quarters: int) -> bytes:
    return box(b"irot", bytes([quarters]))


def mirrored(axis: int) -> bytes:
    return box(b"imir", bytes([axis]))


TRANSFORMATIONS = [
    [clap(50, 40)],
    [clap(51, 41, 3, -2), turned(1)],
    [turned(1), clap(40, 52)],
    [turned(3), mirrored(1), clap(31, 40)],
    [mirrored(0), turned(1)],
    [mirrored(1), turned(3), turned(2)],
    [mirrored(1), turned(1), mirrored(0)],
    [mirrored(1), mirrored(0)],
    [mirrored(1), mirrored(1), turned(1)],
]


@pytest.mark.parametrize("properties", TRANSFORMATIONS, ids=lambda made: " ".join(box[4:8].decode() for box in made))
def test_the_header_of_a_transformed_avif_is_the_picture_that_is_read(bench: Any, smooth: Any, properties: list[bytes]):
    source = with_properties(bench.file(smooth(96, 64), ".avif", effort=0, keep="none"), *properties)
    shown = bench.show(source, Raw())
    header = read(source)
    assert header.orientation is not None
    size = (header.width, header.height)
    assert shown.shape[1::-1] == (size[::-1] if header.orientation >= 5 else size)
    if clap(1, 1)[4:8] in source:
        return
    picture = bench.image(smooth(96, 64))
    picture.set_type(pyvips.GValue.gint_type, "orientation", header.orientation)
    assert np.abs(picture.autorot().numpy().astype(int) - shown).max() < 20, "the orientation is the whole transformation"


def test_a_crop_does_not_hide_the_pixels_that_are_decoded(bench: Any, smooth: Any):
    source = with_properties(bench.file(smooth(96, 64), ".avif", effort=0, keep="none"), clap(4, 4))
    assert read(source).coded_size == (96, 64)
    with pytest.raises(TaskFailed) as failure:
        bench.run(source, Decode(max_pixels=6000), Raw())
    assert failure.value.code == "too_many_pixels"


@given(st.binary(max_size=60), st.sampled_from([b"clap", b"irot", b"imir", b"ispe"]))
@settings(max_examples=100, deadline=None)
def test_any_transformation_gives_a_header_or_none(contents: bytes, kind: bytes):
    header = probe(avif([ispe(96, 64), AV1C, box(kind, contents), clap(50, 40)], ONE_ITEM))
    assert header is None or (header.width >= 1 and header.height >= 1)


@pytest.mark.parametrize("kind", [b"iprp", b"pitm"])
def test_an_avif_with_a_duplicate_box_is_not_parsed(kind: bytes):
    source = [ispe(96, 64), AV1C]
    assert probe(avif(source, ONE_ITEM)) is not None
    assert probe(avif(source, ONE_ITEM, box(kind, bytes(8)))) is None


def test_the_orientation_is_read_from_every_format_with_exif(bench: Any, smooth: Any):
    for suffix in (".png", ".webp", ".jpg", ".tif"):
        header = read(bench.file(smooth(70, 40), suffix, 6))
        assert (header.width, header.height, header.orientation) == (70, 40, 6), suffix


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 2, 0, 0, 0))
HOSTILE = {
    "markers without contents": b"\xff\xd8" + b"\xff\xe0\0\2" * NBYTES,
    "markers that fill": b"\xff\xd8" + b"\xff" * NBYTES,
    "standalone markers": b"\xff\xd8\xff" + b"\xd0\xff" * NBYTES,
    "empty chunks": PNG + chunk(b"teXt") * NBYTES,
    "empty blocks": b"GIF89a\x09\0\x09\0\0\0\0" + b"\x21\xf9\0" * NBYTES,
    "blocks of a byte": b"GIF89a\x09\0\x09\0\0\0\0" + b"\x2c" + bytes(10) + b"\1\1" * NBYTES,
    "empty frames": b"RIFF\xff\xff\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + bytes(6) + b"ANMF\0\0\0\0" * NBYTES,
    "boxes in boxes": META + b"\0\3\xff\xe8meta\0\0\0\0" + b"\0\0\0\x08free" * NBYTES,
    "properties": META + b"\0\3\xff\xe8meta\0\0\0\0\0\3\xff\xdciprp\0\3\xff\xd4ipco" + b"\0\0\0\x08free" * NBYTES,
    "a TIFF with a cycle": b"II*\0\x08\0\0\0" + b"\0\0\x08\0\0\0" + bytes(40),
    "a TIFF of tags": b"II*\0\x08\0\0\0\xff\xff" + bytes(NBYTES),
    "a large TIFF of tags": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0" + b"\xff\xff\0\0\0\0\0\0" + bytes(NBYTES),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_work_on_a_file_of_many_small_parts_is_bounded(name: str):
    data = HOSTILE[name][:NBYTES]
    times: list[float] = []
    for _ in range(5):
        started = time.thread_time()
        header = probe(data)
        times.append(time.thread_time() - started)
        assert header is None or header.pages is None or header.pages <= max(MAX_BLOCKS, MAX_CHUNKS, MAX_MARKERS)
    assert min(times) < 0.02  # about one millisecond; tens of milliseconds without the bounds


SUFFIXES = (".jpg", ".png", ".webp", ".avif", ".gif", ".tif")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_bytes_neither_raise_nor_take_long(bench: Any, suffix: str):
    source = bench.file(noise(50, 40), suffix)
    start = source[:64]

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(st.tuples(st.integers(2, 500), st.binary(min_size=1, max_size=9))),
        st.binary(max_size=12),
        st.integers(0, 20_000),
    )
    def damage(places: list[tuple[int, bytes]], again: bytes, times: int) -> None:
        data = bytearray(source)
        for at, put in places:
            data[at : at + len(put)] = put
        data[:4] = start[:4]
        started = time.thread_time()
        probe(bytes(data) + again * times)
        assert time.thread_time() - started < 0.1  # ample, because the machine may pause; an endless loop exceeds it

    damage()


def gif_of(screen: tuple[int, int], *frames: tuple[int, int, int, int]) -> bytes:
    """Returns a GIF with frames at (left, top, width, height), whose pixels end after the first one."""
    data = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return data + b"".join(b"," + struct.pack("<HHHHB", *frame, 0) + b"\2\2\x44\1\0" for frame in frames) + b";"


@pytest.mark.parametrize(
    "screen", [(100, 90), (640, 480), (480, 640), (1600, 1200), (2048, 2048), (2049, 9), (9, 2049), (0, 9)]
)
@pytest.mark.parametrize("frames", [[(0, 0, 1, 1)], [(70, 5, 60, 40)], [(0, 0, 30, 30), (0, 0, 300, 300)]])
def test_the_size_of_a_gif_is_that_of_the_decoded_picture(screen: tuple[int, int], frames: list[tuple[int, int, int, int]]):
    data = gif_of(screen, *frames)
    header, decoded = read(data), pyvips.Image.new_from_buffer(data, "")
    assert (header.width, header.height) == (decoded.width, decoded.height)
