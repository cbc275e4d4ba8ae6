"""Generator of hostile files of every format, from a seed, that cost a header parser as much time as possible."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator

from offloop_vips import VipsPlugin

__all__ = ["hostile_headers"]

NBYTES = VipsPlugin.probe_nbytes
AVIF = b"\0\0\0\x18ftypavif\0\0\0\0avifmif1"


def hostile_headers(count: int, seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Iterates over `count` descriptions and files, each at most `probe_nbytes` long."""
    rng = random.Random(seed)
    for index in range(count):
        make = MAKERS[index % len(MAKERS)]
        yield f"{make.__name__} {index}", make(rng)[:NBYTES]


def filled(start: bytes, parts: Callable[[], bytes], end: bytes = b"") -> bytes:
    """Returns start, as many parts as fit into `NBYTES`, and end."""
    data = bytearray(start)
    while len(data) < NBYTES - len(end):
        data += parts() * 64
    return bytes(data[: NBYTES - len(end)]) + end


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def frame(rng: random.Random) -> bytes:
    return segment(
        0xC0, struct.pack(">BHHB", 8, rng.randrange(1, 9000), rng.randrange(1, 9000), 3) + b"\1\x22\0\2\x11\1\3\x11\1"
    )


SCAN = segment(0xDA, b"\3\1\0\2\x11\3\x11\0\x3f\0") + bytes(64)


def exif(rng: random.Random, entries: int) -> bytes:
    order = rng.choice("<>")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, entries)
    return (
        head
        + struct.pack(order + "HHII", 0x9999, rng.choice([3, 4]), rng.choice([1, 9, 2**31]), rng.randrange(2**32)) * entries
    )


def jpeg_of_segments(rng: random.Random) -> bytes:
    data = bytes(rng.randrange(0, 200))
    return filled(b"\xff\xd8", lambda: segment(rng.choice([0xFE, 0xE1, 0xE2, 0xDB]), data))


def jpeg_of_junk(rng: random.Random) -> bytes:
    junk = rng.choice([b"\0", b"\xff", b"\xff\0", b"\xff\xd0", b"\xd8\xff", b"\xff\xff\xff\0"])
    return filled(b"\xff\xd8\xff\xfe\0\2", lambda: junk, frame(rng) + SCAN)


def jpeg_of_exif(rng: random.Random) -> bytes:
    entries = rng.choice([1, 150, 200, 201, 5400])
    part = segment(0xE1, b"Exif\0\0" + exif(rng, entries))
    room = (NBYTES - 200) // len(part)
    return b"\xff\xd8" + part * min(room, rng.choice([1, 3, 290])) + frame(rng) + SCAN


def png_of_chunks(rng: random.Random) -> bytes:
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", 9, 9, 8, 2, 0, 0, 0, 0)
    kind = rng.choice([b"tEXt", b"tRNS", b"acTL", b"eXIf", b"fcTL"])
    data = exif(rng, rng.choice([0, 200, 5000])) if kind == b"eXIf" else bytes(rng.choice([0, 4, 8, 800]))
    return filled(
        start, lambda: struct.pack(">I4s", len(data), kind) + data + bytes(4), struct.pack(">I4s", 9, b"IDAT") + bytes(9)
    )


def webp_of_chunks(rng: random.Random) -> bytes:
    flags = rng.choice([0x00, 0x02, 0x08, 0x0A, 0x1A])
    start = b"RIFF\xff\xff\0\0WEBPVP8X\x0a\0\0\0" + bytes([flags]) + bytes(3) + b"\x3f\0\0\x3f\0\0"
    kind, data = rng.choice([b"ANMF", b"JUNK", b"EXIF", b"ALPH"]), bytes(rng.choice([0, 1, 16, 500]))
    return filled(start, lambda: kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2))


def gif_of_blocks(rng: random.Random) -> bytes:
    image = b"\x2c" + bytes(4) + b"\1\0\1\0\0\2"
    part = rng.choice([b"\x21\xf9\0", image + b"\1x\0", b"\x21\xfe\1x\0", b"\1x", image + b"\x87" + bytes(40)])
    start = rng.choice([b"", b"\x21\xfe", image])
    return filled(b"GIF89a\x09\0\x09\0\x80\0\0" + bytes(6) + start, lambda: part)


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", 8 + len(data)) + kind + data


def good_properties(rng: random.Random) -> bytes:
    sizes = box(b"ispe", struct.pack(">III", 0, rng.randrange(1, 9000), rng.randrange(1, 9000)))
    return box(
        b"iprp", box(b"ipco", sizes + box(b"av1C", b"\x81\0\x0c\0")) + box(b"ipma", struct.pack(">IIHBBB", 0, 1, 1, 2, 1, 2))
    )


def avif_of_boxes(rng: random.Random) -> bytes:
    first = box(b"pitm", struct.pack(">IH", 0, 1))
    room = rng.choice([16_000, 200_000])
    hostile = rng.choice(
        [
            box(b"iprp", box(b"ipco", b"\0\0\0\x08free" * (room // 8))),
            box(b"iprp", box(b"ipma", struct.pack(">II", 0, room // 3) + b"\0\x02\0" * (room // 3))),
            box(b"iprp", box(b"ipma", struct.pack(">II", 0, room // 258) + (b"\0\x02\xff" + b"\1" * 255) * (room // 258))),
            box(b"iloc", b"\0\0\0\0\x44\0" + struct.pack(">H", room // 6) + (bytes(4) + b"\xff\xff") * (room // 6)),
            b"\0\0\0\x08free" * (room // 8),
            b"".join(struct.pack(">I4sI", 12 * (room // 12 - n), b"meta", 0) for n in range(room // 12)),
        ]
    )
    parts = [first, hostile, good_properties(rng)]
    if rng.random() < 0.3:
        rng.shuffle(parts)
    return AVIF + box(b"meta", bytes(4) + b"".join(parts))


def tiff_of_tags(rng: random.Random) -> bytes:
    order = rng.choice("<>")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHII", rng.choice([256, 330, 60_000]), rng.choice([3, 4]), rng.choice([1, 2**31]), 64)
    entries = rng.choice([1, 9, 199, 201, 65_535])
    page = struct.pack(order + "H", entries) + entry * entries
    if rng.random() < 0.5:  # a cycle
        return mark + struct.pack(order + "I", 8) + page + struct.pack(order + "I", 8) + bytes(100)
    data, at = bytearray(mark + struct.pack(order + "I", 8)), 8
    while len(data) < NBYTES:
        at += len(page) + 4
        data += page + struct.pack(order + "I", at)
    return bytes(data)


MAKERS = [
    jpeg_of_segments,
    jpeg_of_junk,
    jpeg_of_exif,
    png_of_chunks,
    webp_of_chunks,
    gif_of_blocks,
    avif_of_boxes,
    tiff_of_tags,
]
