"""AVIF files with chosen properties, made from files of one item."""

from __future__ import annotations

import struct

__all__ = ["box", "boxes", "clap", "full_box", "nclx", "with_properties"]


def box(kind: bytes, *contents: bytes) -> bytes:
    data = b"".join(contents)
    return struct.pack(">I", 8 + len(data)) + kind + data


def full_box(kind: bytes, *contents: bytes, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", flags), *contents)


def boxes(data: bytes, start: int) -> dict[bytes, bytes]:
    """Returns the boxes from `start` to the end by kind, with their heads."""
    found: dict[bytes, bytes] = {}
    while start < len(data):
        nbytes, kind = struct.unpack_from(">I4s", data, start)
        found[kind] = data[start : start + nbytes]
        start += nbytes
    return found


def clap(width: int, height: int, left: float = 0, top: float = 0) -> bytes:
    """Returns a clean aperture of a size, `left` and `top` pixels from the middle of the picture."""
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, int(left * 2), 2, int(top * 2), 2))


def nclx(primaries: int, transfer: int, matrix: int, *, full_range: bool = True) -> bytes:
    return box(b"colr", b"nclx", struct.pack(">HHHB", primaries, transfer, matrix, 0x80 if full_range else 0))


def with_properties(avif: bytes, *properties: bytes) -> bytes:
    """Returns an AVIF of one item with these properties instead of those of their kinds, in this order after the others."""
    top = boxes(avif, 0)
    meta = boxes(top[b"meta"], 12)
    others = boxes(boxes(meta[b"iprp"], 8)[b"ipco"], 8)
    kept = [other for kind, other in others.items() if kind not in {made[4:8] for made in properties}]
    numbers = bytes(0x80 | number for number in range(1, len(kept) + len(properties) + 1))

    def placed_at(offset: int) -> bytes:
        return full_box(
            b"meta",
            meta[b"hdlr"],
            meta[b"pitm"],
            full_box(b"iloc", struct.pack(">BBH", 0x44, 0, 1), struct.pack(">HHHII", 1, 0, 1, offset, len(top[b"mdat"]) - 8)),
            full_box(b"iinf", struct.pack(">H", 1), full_box(b"infe", struct.pack(">HH4sx", 1, 0, b"av01"), flags=2 << 24)),
            box(
                b"iprp",
                box(b"ipco", *kept, *properties),
                full_box(b"ipma", struct.pack(">IHB", 1, 1, len(numbers)) + numbers),
            ),
        )

    start = len(top[b"ftyp"]) + len(placed_at(0)) + 8
    return top[b"ftyp"] + placed_at(start) + top[b"mdat"]
