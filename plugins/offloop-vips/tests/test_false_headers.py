"""Files with false or contradicting headers: the result is the right picture or a typed error, and never a larger picture."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop.errors import TaskFailed
from offloop_vips import Decode, Raw, VipsPlugin

SMALL, BIG = (64, 48), (640, 480)
LENIENT = Decode(fail_on="none")
NO_HEADER = "no header"


def picture(width: int, height: int) -> Any:
    y, x = np.mgrid[0:height, 0:width]
    samples: Any = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype("u1")
    return pyvips.Image.new_from_array(samples).copy(interpretation="srgb")


def jpegs() -> tuple[bytes, bytes, int, bytes, bytes]:
    small, big = (picture(*size).jpegsave_buffer(keep="none") for size in (SMALL, BIG))

    def frame(data: bytes) -> tuple[int, bytes]:
        at = data.index(b"\xff\xc0")
        return at, data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]

    place, of_big = frame(big)
    return small, big, place, frame(small)[1], of_big


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def extended_webp(canvas: tuple[int, int], flags: int, *chunks: bytes) -> bytes:
    width, height = (struct.pack("<I", side - 1)[:3] for side in canvas)
    body = b"WEBPVP8X" + struct.pack("<IB3x", 10, flags) + width + height + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animated_webp(canvas: tuple[int, int], frame: tuple[int, int], data: bytes) -> bytes:
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in frame)
    contents = bytes(6) + sides + b"\x0a\0\0\0" + data
    return extended_webp(canvas, 2, b"ANIM\6\0\0\0" + bytes(6), b"ANMF" + struct.pack("<I", len(contents)) + contents)


def tiff(*widths: int) -> bytes:
    tags = [(256, 4, width) for width in widths]
    tags += [(257, 4, 480), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 0), (277, 3, 1), (278, 4, 480), (279, 4, 640 * 480)]
    at = 14 + 12 * len(tags)
    entries = [struct.pack("<HHII", tag, kind, 1, value or at) for tag, kind, value in tags]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4) + bytes(640 * 480)


def false_headers() -> dict[str, tuple[bytes, Any, Any]]:
    """Returns by name: source, probed size or `NO_HEADER`, and size or error code of the result with `fail_on="none"`."""
    small, big, at, of_small, of_big = jpegs()
    hidden = b"\xff\xe5" + struct.pack(">H", 2 + len(of_small) + 8) + of_small + b"\xff\xda" + bytes(6)
    thumbnail = b"\xff\xe1" + struct.pack(">H", 8 + len(small)) + b"Exif\0\0" + small
    small_png, big_png = (picture(*size).pngsave_buffer(keep="none") for size in (SMALL, BIG))
    gif = bytearray(picture(*BIG).gifsave_buffer(effort=1))
    gif[6:10] = struct.pack("<HH", *SMALL)
    small_webp, big_webp = (picture(*size).webpsave_buffer(keep="none") for size in (SMALL, BIG))
    webps = small_webp[12:] + big_webp[12:]
    avif = picture(*BIG).heifsave_buffer(compression="av1", effort=0)
    size_at = avif.index(b"ispe") + 8
    corrupt = "corrupt_source"
    return {
        "JPEG, a small frame before": (big[:at] + of_small + big[at:], NO_HEADER, corrupt),
        "JPEG, a small frame after": (big[: at + len(of_big)] + of_small + big[at + len(of_big) :], NO_HEADER, corrupt),
        "JPEG, a frame in a segment": (big[:2] + hidden + big[2:], BIG, BIG),
        "JPEG, a frame in a segment behind a zero byte": (big[:2] + b"\xff\x00\x00\x06" + hidden + big[2:], BIG, BIG),
        "JPEG, a thumbnail": (
            big[:2] + thumbnail + big[2:],
            BIG,
            BIG,
        ),
        "PNG, a small header before": (big_png[:8] + small_png[8:33] + big_png[8:], SMALL, corrupt),
        "PNG, a small header after": (big_png[:33] + small_png[8:33] + big_png[33:], BIG, corrupt),
        "GIF, a frame beyond the screen": (bytes(gif), BIG, BIG),
        "WebP, a frame beyond the canvas": (extended_webp(SMALL, 0, big_webp[12:]), SMALL, corrupt),
        "WebP, a canvas beyond the frame": (extended_webp((6400, 4800), 0, big_webp[12:]), (6400, 4800), corrupt),
        "WebP, an animation's frame beyond the canvas": (animated_webp(SMALL, BIG, big_webp[12:]), SMALL, corrupt),
        "WebP, an animation's frame beyond its declared size": (animated_webp(SMALL, SMALL, big_webp[12:]), SMALL, corrupt),
        "WebP, two pictures": (b"RIFF" + struct.pack("<I", 4 + len(webps)) + b"WEBP" + webps, SMALL, SMALL),
        "WebP, bits beside the size": (big_webp[:27] + bytes([big_webp[27] | 0x40]) + big_webp[28:], BIG, BIG),
        "TIFF, one width": (tiff(640), BIG, BIG),
        "TIFF, a small width after": (tiff(640, 64), BIG, BIG),
        "TIFF, a small width before": (tiff(64, 640), (64, 480), (64, 480)),
        "AVIF, a small size": (avif[:size_at] + struct.pack(">II", *SMALL) + avif[size_at + 8 :], SMALL, corrupt),
        "AVIF, a large size": (avif[:size_at] + struct.pack(">II", 6400, 4800) + avif[size_at + 8 :], (6400, 4800), corrupt),
    }


FALSE_HEADERS = false_headers()


@pytest.mark.parametrize("name", FALSE_HEADERS)
def test_a_false_header_gives_the_right_picture_or_a_typed_error(bench: Any, name: str):
    source, probed, outcome = FALSE_HEADERS[name]
    header = VipsPlugin().probe(memoryview(source))
    assert (NO_HEADER if header is None else (header.width, header.height)) == probed
    if outcome == "corrupt_source":
        with pytest.raises(TaskFailed) as failure:
            bench.run(source, LENIENT, Raw())
        assert failure.value.code == outcome
    else:
        height, width, _ = bench.run(source, LENIENT, Raw()).shape
        assert (width, height) == outcome


@pytest.mark.parametrize("name", FALSE_HEADERS)
def test_no_picture_is_larger_than_its_header_declares(name: str):
    _, probed, outcome = FALSE_HEADERS[name]
    if probed != NO_HEADER and outcome != "corrupt_source":
        assert outcome[0] * outcome[1] <= probed[0] * probed[1]
