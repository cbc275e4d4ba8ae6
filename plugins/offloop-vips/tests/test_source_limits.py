"""Limits on declared pixels and pages, checked before a decoder is called."""

from __future__ import annotations

import base64
import random
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import TaskFailed
from offloop_vips import Decode, Extend, Jpeg, Png, Raw, Resize, Rotate, Tiff, Trim, VipsPlugin, Webp
from offloop_vips.headers.page_count import count_pages
from offloop_vips.headers.parser import VipsHeader


def refusal(bench: Any, source: Any, *operations: Any) -> TaskFailed:
    with pytest.raises(TaskFailed) as failure:
        bench.run(source, *operations)
    return failure.value


def webp(bench: Any, frames: int, canvas: tuple[int, int] = (16, 16), junk: int = 0) -> bytes:
    """Returns an animation of tiny frames."""
    one = bench.file(np.zeros((16, 16, 3), "u1"), ".webp", lossless=True, keep="none")
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in canvas)
    contents = bytes(6) + b"\x0f\0\0\x0f\0\0" + b"\x0a\0\0\0" + one[12:]
    frame = b"ANMF" + struct.pack("<I", len(contents)) + contents
    head = b"WEBPVP8X" + struct.pack("<IB3x", 10, 2) + sides + b"ANIM\6\0\0\0" + bytes(6)
    body = head + b"JUNK\0\0\0\0" * junk + frame * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(frames: int) -> bytes:
    frame = b"\x21\xf9\4\0\1\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def tiff(pages: int, *, is_cyclic: bool = False) -> bytes:
    tags = [
        (256, 4, 8),
        (257, 4, 8),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 0),
        (277, 3, 1),
        (278, 4, 8),
        (279, 4, 64),
    ]
    size = 2 + 12 * len(tags) + 4
    data = bytearray(b"II*\0\x08\0\0\0")
    for page in range(pages):
        last = page == pages - 1
        data += struct.pack("<H", len(tags))
        data += b"".join(struct.pack("<HHII", tag, kind, 1, value or 8 + size * pages) for tag, kind, value in tags)
        data += struct.pack("<I", (8 if is_cyclic else 0) if last else 8 + size * (page + 1))
    return bytes(data) + bytes(64)


@pytest.mark.parametrize("canvas", [(16_383, 16_383), (14_500, 14_500)])
def test_a_canvas_beyond_the_limit_fails_with_too_many_pixels(bench: Any, canvas: tuple[int, int]):
    failure = refusal(bench, webp(bench, 20, canvas))
    assert failure.code == "too_many_pixels"
    assert f"{canvas[0]} x {canvas[1]}" in failure.message


def of_pages(bench: Any, source: str, pages: int) -> bytes:
    match source:
        case "webp":
            return webp(bench, pages)
        case "gif":
            return gif(pages)
        case _:
            return tiff(pages)


@pytest.mark.parametrize("source", ["webp", "gif", "tiff"])
def test_the_page_limit_applies_even_if_one_page_is_read(bench: Any, source: str):
    assert bench.run(of_pages(bench, source, 30), Decode(max_pages=30), Raw()).shape[2] >= 1
    failure = refusal(bench, of_pages(bench, source, 31), Decode(max_pages=30), Raw())
    assert failure.code == "too_many_pages"
    assert "more than 30 pages" in failure.message


@pytest.mark.parametrize("source", ["webp", "tiff"])
def test_a_hundred_thousand_frames_are_refused_quickly(bench: Any, source: str):
    data = of_pages(bench, source, 100_000)
    started = time.process_time()
    assert refusal(bench, data).code == "too_many_pages"
    assert time.process_time() - started < 0.5  # without the check, the decoder takes half a minute


def test_frames_after_too_many_other_chunks_are_refused(bench: Any):
    assert refusal(bench, webp(bench, 100, junk=20_000)).code == "too_many_pages"


def test_a_tiff_with_a_cycle_of_directories_has_too_many_pages():
    assert count_pages("tiff", memoryview(tiff(3, is_cyclic=True)), 500) == 501


@pytest.mark.parametrize("source", ["webp", "tiff"])
@pytest.mark.parametrize("data", [b"", b"II*\0", b"RIFF\0\0\0\0WEBPVP8X", b"II*\0\xff\xff\xff\x7f", b"MM\0+" + bytes(12)])
def test_the_page_count_of_a_broken_file_does_not_raise(source: Any, data: bytes):
    assert count_pages(source, memoryview(data), 10) <= 1


HEADERS: dict[str, tuple[dict[str, Any], Decode]] = {
    "source_too_large": ({"width": 10, "height": 10}, Decode(max_bytes=999)),
    "unsupported_format": ({"width": 10, "height": 10}, Decode(formats=("jpeg", "webp"))),
    "too_many_pixels": ({"width": 40_000, "height": 10_000}, Decode()),
    "too_many_bands": ({"width": 10, "height": 10, "bands": 17}, Decode()),
    "too_many_pages": ({"width": 10, "height": 10, "pages": 10_001}, Decode()),
}


@pytest.mark.parametrize("code", HEADERS)
def test_the_server_refuses_by_the_header_what_the_worker_would_refuse(code: str):
    fields, decode = HEADERS[code]
    header = VipsHeader(media_type="image/png", **fields)
    with pytest.raises(TaskFailed) as failure:
        VipsPlugin().refuse(header, [decode, Raw()], 1000)
    assert failure.value.code == code


def test_the_pages_that_are_read_count_together():
    header = VipsHeader(media_type="image/gif", width=10_000, height=5_000, pages=20)
    VipsPlugin().refuse(header, [Raw()], 1000)
    VipsPlugin().refuse(header, [Decode(pages=4)], 1000)
    for decode in (Decode(pages=5), Decode(pages=-1)):
        with pytest.raises(TaskFailed, match="pages"):
            VipsPlugin().refuse(header, [decode], 1000)
    VipsPlugin().refuse(header, [Decode(page=16, pages=-1)], 1000)


def test_the_worker_refuses_long_sources_and_many_bands(bench: Any):
    source = bench.file(np.zeros((9, 9, 3), "u1"), ".png")
    assert refusal(bench, source, Decode(max_bytes=50), Raw()).code == "source_too_large"
    assert refusal(bench, source, Decode(max_bands=2), Raw()).code == "too_many_bands"


def with_metadata(bench: Any, array: Any, suffix: str) -> bytes:
    """Returns a file with 50,000 bytes of XMP, which a PNG compresses to 40,000."""
    text = base64.b85encode(random.Random(1).randbytes(40_000))
    image = bench.image(array).copy()
    image.set_type(pyvips.GValue.blob_type, "xmp-data", text)
    return image.write_to_buffer(suffix, keep="xmp")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_metadata_beyond_the_limit_is_refused(bench: Any, smooth: Any, suffix: str):
    source = with_metadata(bench, smooth(40, 30), suffix)
    assert bench.run(source, Decode(max_metadata_bytes=60_000), Raw()).shape == (30, 40, 3)
    assert refusal(bench, source, Decode(max_metadata_bytes=49_000), Raw()).code == "too_much_metadata"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_the_server_refuses_metadata_by_the_header(bench: Any, smooth: Any, suffix: str):
    plugin, source = VipsPlugin(), with_metadata(bench, smooth(40, 30), suffix)
    header = plugin.probe(memoryview(source))
    assert header is not None
    plugin.refuse(header, [Decode(max_metadata_bytes=60_000), Raw()], len(source))
    with pytest.raises(TaskFailed) as failure:
        plugin.refuse(header, [Decode(max_metadata_bytes=30_000), Raw()], len(source))
    assert failure.value.code == "too_much_metadata"


def test_metadata_after_the_pixels_counts_in_the_worker(bench: Any, smooth: Any):
    source = bench.file(np.random.default_rng(1).integers(0, 256, (400, 400, 3), "u1"), ".png", compression=0, keep="none")
    chunk = struct.pack(">I", 9000) + b"tEXt" + b"x\0" + b"y" * 8998
    source = source[:-12] + chunk + struct.pack(">I", zlib.crc32(chunk[4:])) + source[-12:]
    assert bench.run(source, Decode(max_metadata_bytes=9100), Raw()).shape == (400, 400, 3)
    assert refusal(bench, source, Decode(max_metadata_bytes=8900), Raw()).code == "too_much_metadata"


def test_a_length_beyond_the_end_of_the_file_is_damage_and_no_metadata(bench: Any, smooth: Any):
    source = bench.file(smooth(40, 30), ".png", keep="none")
    at = source.index(b"pHYs") - 4
    damaged = source[:at] + b"\x7f" + source[at + 1 :]
    header = VipsPlugin().probe(memoryview(damaged))
    assert header is None or VipsPlugin().refuse(header, [Raw()], len(damaged)) is None
    assert refusal(bench, damaged, Raw()).code == "corrupt_source"


PIPELINES: dict[str, tuple[Any, ...]] = {
    "source": (),
    "enlarged": (Resize(70, 20, fit="fill"),),
    "extended": (Extend(left=30),),
    "turned": (Rotate(90), Resize(30, 70, fit="fill")),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_result_with_a_longer_side_than_the_limit_is_refused_by_both_halves(bench: Any, smooth: Any, name: str):
    plugin, source, steps = VipsPlugin(), bench.file(smooth(70, 30), ".jpg"), PIPELINES[name]
    side = max(bench.run(source, *steps, Raw()).shape)
    header = plugin.probe(memoryview(source))
    assert header is not None
    bench.run(source, Decode(max_output_side=side), *steps, Raw())
    plugin.refuse(header, [Decode(max_output_side=side), *steps, Raw()], len(source))
    assert refusal(bench, source, Decode(max_output_side=side - 1), *steps, Raw()).code == "output_too_wide"
    if name != "turned":  # the server does not compute rotations
        with pytest.raises(TaskFailed, match=r"Decode\.max_output_side"):
            plugin.refuse(header, [Decode(max_output_side=side - 1), *steps, Raw()], len(source))


def test_a_size_that_depends_on_pixels_is_refused_in_the_worker_only(bench: Any):
    array = np.zeros((40, 60, 3), "u1")
    array[10:20, 10:20] = 255
    source, steps = bench.file(array, ".png"), (Decode(max_output_side=12), Trim(), Raw())
    header = VipsPlugin().probe(memoryview(source))
    assert header is not None
    VipsPlugin().refuse(header, steps, len(source))
    assert bench.run(source, *steps).shape == (10, 10, 3)


@pytest.mark.parametrize(
    "last", [Raw(), Png(compression_level=0), Tiff(compression="none"), Webp(lossless=True), Jpeg(max_bytes=10**6)]
)
def test_a_result_longer_than_the_limit_is_refused(bench: Any, last: Any):
    source = bench.file(np.random.default_rng(1).integers(0, 256, (90, 80, 3), "u1"), ".png")
    made = memoryview(bench.run(source, last).data).nbytes
    assert memoryview(bench.run(source, Decode(max_output_bytes=made), last).data).nbytes == made
    assert refusal(bench, source, Decode(max_output_bytes=made - 1), last).code == "output_too_large"
