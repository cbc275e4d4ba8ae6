"""Sequences of many pictures as APNG or AVIF: the plugin reads one picture, and the other frames cost no time and no memory."""

from __future__ import annotations

import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest

from offloop.errors import TaskFailed
from offloop_vips import Decode, Raw

from .avif_files import box, boxes, full_box

SIDE = 16
FRAMES = 50_000


@pytest.fixture
def still(bench: Any) -> dict[str, bytes]:
    """The same picture as a PNG, and as an AVIF with one item."""
    pixels = np.full((SIDE, SIDE, 3), 90, "u1")
    return {suffix: bench.file(pixels, suffix, keep="none") for suffix in (".png", ".avif")}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def apng(png: bytes, frames: int) -> bytes:
    """Returns an animation in which each frame is the picture."""
    at = png.index(b"IDAT") - 4
    nbytes = struct.unpack_from(">I", png, at)[0]
    idat, end = png[at : at + 12 + nbytes], png[at + 12 + nbytes :]
    control = struct.pack(">IIIIHHBB", SIDE, SIDE, 0, 0, 1, 100, 0, 0)
    parts = [png[:at], chunk(b"acTL", struct.pack(">II", frames, 0)), chunk(b"fcTL", struct.pack(">I", 0) + control), idat]
    for number in range(1, frames):
        parts.append(chunk(b"fcTL", struct.pack(">I", 2 * number - 1) + control))
        parts.append(chunk(b"fdAT", struct.pack(">I", 2 * number) + idat[8:-4]))
    return b"".join([*parts, end])


def avis(avif: bytes, frames: int) -> bytes:
    """Returns an image sequence: the still picture, and a track of `frames` frames."""
    at = avif.index(b"av1C") - 4
    coding = avif[at : at + struct.unpack_from(">I", avif, at)[0]]
    matrix = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    entry = box(
        b"av01",
        struct.pack(">6xH16xHHIIIH32xHh", 1, SIDE, SIDE, 72 << 16, 72 << 16, 0, 1, 24, -1),
        coding,
    )
    table = box(
        b"stbl",
        full_box(b"stsd", struct.pack(">I", 1), entry),
        full_box(b"stts", struct.pack(">III", 1, frames, 1)),
        full_box(b"stsc", struct.pack(">IIII", 1, 1, frames, 1)),
        full_box(b"stsz", struct.pack(">II", 0, frames), struct.pack(">I", 1) * frames),
        full_box(b"stco", struct.pack(">II", 1, 64)),
    )
    media = box(
        b"mdia",
        full_box(b"mdhd", struct.pack(">IIIIHH", 0, 0, 100, frames, 0x55C4, 0)),
        full_box(b"hdlr", struct.pack(">I4s12x", 0, b"pict"), b"\0"),
        box(
            b"minf",
            full_box(b"vmhd", bytes(8), flags=1),
            box(b"dinf", full_box(b"dref", struct.pack(">I", 1), full_box(b"url ", flags=1))),
            table,
        ),
    )
    header = struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, frames, 0, 0, 0, 0) + matrix + struct.pack(">II", SIDE << 16, SIDE << 16)
    track = box(b"trak", full_box(b"tkhd", header, flags=3), media)
    movie = struct.pack(">IIIIIH10x", 0, 0, 100, frames, 1 << 16, 1 << 8) + matrix + bytes(24) + struct.pack(">I", 2)
    start = struct.unpack_from(">I", avif, 0)[0]
    kind = avif[:8] + b"avis" + avif[12:16] + avif[16:start].replace(b"miaf", b"avis")
    return kind + avif[start:] + box(b"moov", full_box(b"mvhd", movie), track)


def collection(avif: bytes, pictures: int) -> bytes:
    """Returns an AVIF of `pictures` items, all with the same coded data and properties."""
    top = boxes(avif, 0)
    meta = boxes(top[b"meta"], 12)
    properties = boxes(meta[b"iprp"], 8)[b"ipco"]
    count = len(boxes(properties, 8))
    numbers = range(1, pictures + 1)
    entries = b"".join(full_box(b"infe", struct.pack(">HH4sx", number, 0, b"av01"), flags=2 << 24) for number in numbers)
    used = bytes(range(1, count + 1))
    associations = b"".join(struct.pack(">HB", number, count) + used for number in numbers)

    def placed_at(offset: int) -> bytes:
        nbytes = len(top[b"mdat"]) - 8
        places = b"".join(struct.pack(">HHHII", number, 0, 1, offset, nbytes) for number in numbers)
        return full_box(
            b"meta",
            meta[b"hdlr"],
            meta[b"pitm"],
            full_box(b"iloc", struct.pack(">BBH", 0x44, 0, pictures), places),
            full_box(b"iinf", struct.pack(">H", pictures), entries),
            box(b"iprp", properties, full_box(b"ipma", struct.pack(">I", pictures), associations)),
        )

    start = len(top[b"ftyp"]) + len(placed_at(0)) + 8
    return top[b"ftyp"] + placed_at(start) + top[b"mdat"]


@pytest.mark.parametrize(("suffix", "sequence"), [(".png", apng), (".avif", avis)])
def test_a_sequence_is_quickly_decoded_as_one_picture(bench: Any, still: dict[str, bytes], suffix: str, sequence: Any):
    data = sequence(still[suffix], FRAMES)
    alone = bench.show(still[suffix], Raw())
    began = time.process_time()
    made = bench.show(data, Decode(max_pages=1), Raw())
    assert time.process_time() - began < 0.5
    assert np.array_equal(made, alone)


def test_an_avif_of_many_pictures_has_many_pages_and_one_is_decoded(bench: Any, still: dict[str, bytes]):
    data = collection(still[".avif"], 200)
    assert np.array_equal(bench.show(data, Raw()), bench.show(still[".avif"], Raw()))
    began = time.process_time()
    bench.run(data, Raw())
    assert time.process_time() - began < 0.1
    with pytest.raises(TaskFailed, match="more than 100 pages") as failure:
        bench.run(data, Decode(max_pages=100), Raw())
    assert failure.value.code == "too_many_pages"


def test_an_avif_of_60_000_pictures_is_refused_quickly(bench: Any, still: dict[str, bytes]):
    data = collection(still[".avif"], 60_000)
    began = time.process_time()
    with pytest.raises(TaskFailed) as failure:
        bench.run(data, Raw())
    assert time.process_time() - began < 0.5
    assert failure.value.code == "corrupt_source", "libheif has a limit of its own"
