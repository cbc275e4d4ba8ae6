"""Limits on declared pixels and pages, checked before a decoder is called."""

from __future__ import annotations

import struct
import time
from typing import Any

import numpy as np
import pytest

from offloop.errors import TaskFailed
from offloop_vips import Decode, Raw, VipsPlugin
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
