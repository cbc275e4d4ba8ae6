"""Small files that declare or contain far more than they should, made here, because such files should not lie around."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import pyvips

from .avif_files import box, boxes, full_box

__all__ = ["BOMBS"]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deflated(nbytes: int) -> bytes:
    deflater = zlib.compressobj(9)
    return b"".join([*(deflater.compress(bytes(1000)) for _ in range(nbytes // 1000)), deflater.flush()])


def png(width: int, height: int, *chunks: bytes) -> bytes:
    """Returns a complete PNG of one bit a pixel."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", deflated(height * (1 + width // 8) // 1000 * 1000 + 1000))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def png_header(side: int, *chunks: bytes) -> bytes:
    """Returns a PNG with few pixels, whose header declares this side."""
    small = png(9, 9, *chunks)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return small[:8] + header + small[8 + len(header) :]


def text(nbytes: int) -> bytes:
    return chunk(b"zTXt", b"Comment\0\0" + deflated(nbytes))


def translated_text(nbytes: int) -> bytes:
    return chunk(b"iTXt", b"Comment\0\1\0en\0Comment\0" + deflated(nbytes))


def comment(nbytes: int) -> bytes:
    return chunk(b"tEXt", b"Comment\0" + bytes(nbytes))


def jpeg_of_comments(side: int, comments: int) -> bytes:
    """Returns a JPEG whose scan comes after so many comments."""
    small: bytes = black(16).jpegsave_buffer(keep="none")
    frame, scan = small.index(b"\xff\xc0"), small.index(b"\xff\xda")
    sized = small[: frame + 5] + struct.pack(">HH", side, side) + small[frame + 9 : scan]
    return sized + b"\xff\xfe\0\2" * comments + small[scan:]


def still_webp(side: int, chunks: int) -> bytes:
    """Returns a WebP with a canvas of this side, whose pixels come after so many empty chunks."""
    small: bytes = black(16).webpsave_buffer(lossless=True, keep="none")
    head = b"WEBPVP8X" + struct.pack("<IB3x", 10, 8) + struct.pack("<I", side - 1)[:3] * 2
    body = head + b"JUNK\0\0\0\0" * chunks + small[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff_of_tags(side: int, more: int) -> bytes:
    """Returns a TIFF with so many unknown tags after the usual ones."""
    tags = [(256, side), (257, side), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, 100)]
    tags += [(60_000 + number, 1) for number in range(more)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(104)


def gif(frames: int, width: int, height: int) -> bytes:
    frame = b"\x21\xf9\4\0\1\0\0\0" + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + frame * frames + b";"


def black(side: int) -> Any:
    return pyvips.Image.black(side, side, bands=3).copy(interpretation="srgb")


def webp(width: int, height: int, frames: int) -> bytes:
    one: bytes = black(16).webpsave_buffer(lossless=True, keep="none")
    contents = bytes(6) + b"\x0f\0\0\x0f\0\0" + b"\x0a\0\0\0" + one[12:]
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in (width, height))
    head = b"WEBPVP8X" + struct.pack("<IB3x", 10, 2) + sides + b"ANIM\6\0\0\0" + bytes(6)
    body = head + (b"ANMF" + struct.pack("<I", len(contents)) + contents) * frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(width: int, height: int, rows: int, strip_nbytes: int) -> bytes:
    """Returns a TIFF with one strip of so many rows, and with 100 bytes of it."""
    tags = [
        (256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 122), (277, 1), (278, rows),
        (279, strip_nbytes),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + bytes(100)


def avif_grid(rows: int, columns: int, width: int, height: int, tiles: int) -> bytes:
    """Returns an AVIF whose picture is a grid, with so many tiles of 64 x 64 pixels, all of the same data."""
    made: bytes = black(64).heifsave_buffer(compression="av1", effort=0, keep="none")
    top = boxes(made, 0)
    meta = boxes(top[b"meta"], 12)
    of_tile = boxes(boxes(meta[b"iprp"], 8)[b"ipco"], 8)
    data, numbers = top[b"mdat"][8:], range(2, tiles + 2)
    description = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    size = full_box(b"ispe", struct.pack(">II", width, height))
    tile_properties = bytes(0x80 | number for number in range(1, len(of_tile) + 1))

    def item(number: int, kind: bytes) -> bytes:
        return full_box(b"infe", struct.pack(">HH4sx", number, 0, kind), flags=2 << 24)

    def place(number: int, offset: int, nbytes: int) -> bytes:
        return struct.pack(">HHHII", number, 0, 1, offset, nbytes)

    def placed_at(offset: int) -> bytes:
        places = [place(1, offset, len(description))]
        places += [place(number, offset + len(description), len(data)) for number in numbers]
        uses = [struct.pack(">HB", 1, 1) + bytes([len(of_tile) + 1])]
        uses += [struct.pack(">HB", number, len(tile_properties)) + tile_properties for number in numbers]
        items = [item(1, b"grid"), *(item(number, b"av01") for number in numbers)]
        return full_box(
            b"meta",
            meta[b"hdlr"],
            full_box(b"pitm", struct.pack(">H", 1)),
            full_box(b"iloc", struct.pack(">BBH", 0x44, 0, tiles + 1), *places),
            full_box(b"iinf", struct.pack(">H", tiles + 1), *items),
            full_box(b"iref", box(b"dimg", struct.pack(">HH", 1, tiles), *(struct.pack(">H", number) for number in numbers))),
            box(
                b"iprp",
                box(b"ipco", *of_tile.values(), size),
                full_box(b"ipma", struct.pack(">I", tiles + 1), *uses),
            ),
        )

    start = len(top[b"ftyp"]) + len(placed_at(0)) + 8
    return top[b"ftyp"] + placed_at(start) + box(b"mdat", description, data)


def _bombs() -> dict[str, tuple[bytes, str, bool]]:
    """Returns by name: file, code of its error, and whether its first bytes are enough to refuse it."""
    return {
        "PNG of 20,000 x 20,000": (png(20_000, 20_000), "too_many_pixels", True),
        "PNG of 200,000 x 200,000 behind 20,000 texts": (png_header(200_000, comment(0) * 20_000), "too_many_pixels", True),
        "PNG of 200,000 x 200,000 behind a text of 300 KB": (png_header(200_000, comment(300_000)), "too_many_pixels", True),
        "JPEG of 65,000 x 65,000 with 1,000 comments": (jpeg_of_comments(65_000, 1000), "too_many_pixels", True),
        "JPEG of 65,000 x 65,000 with 300 KB of comments": (jpeg_of_comments(65_000, 75_000), "too_many_pixels", True),
        "WebP of 16,383 x 16,383 behind 1,000 chunks": (still_webp(16_383, 1000), "too_many_pixels", True),
        "TIFF of 50,000 x 50,000 with 1,000 tags": (tiff_of_tags(50_000, 1000), "too_many_pixels", True),
        "PNG with 50 texts of 8 MB": (png(9, 9, *[text(8_000_000)] * 50), "too_much_metadata", False),
        "PNG with a text of 100 MB": (png(9, 9, text(100_000_000)), "too_much_metadata", False),
        "PNG with a translated text of 100 MB": (png(9, 9, translated_text(100_000_000)), "too_much_metadata", False),
        "PNG with a profile of 100 MB": (
            png(9, 9, chunk(b"iCCP", b"x\0\0" + deflated(100_000_000))),
            "too_much_metadata",
            False,
        ),
        "GIF of 1,000 frames": (gif(1000, 2000, 2000), "too_many_pixels", False),
        "GIF of 100,000 frames": (gif(100_000, 16, 16), "too_many_pages", False),
        "WebP with a huge canvas": (webp(16_383, 16_383, 1), "too_many_pixels", True),
        "WebP with 100,000 frames": (webp(16, 16, 100_000), "too_many_pages", False),
        "TIFF with a strip that is not there": (tiff(10_000, 10_000, 10_000, 100_000_000), "corrupt_source", False),
        "TIFF with a strip of 4 GB": (tiff(10_000, 10_000, 10_000, 2**32 - 16), "corrupt_source", False),
        "TIFF of 50,000 x 50,000": (tiff(50_000, 50_000, 1, 100), "too_many_pixels", True),
        "AVIF grid of 60,000 x 60,000": (avif_grid(2, 2, 60_000, 60_000, 4), "too_many_pixels", True),
        "AVIF grid larger than its tiles": (avif_grid(2, 2, 12_000, 12_000, 4), "corrupt_source", False),
        "AVIF grid with missing tiles": (avif_grid(200, 200, 12_800, 12_800, 16), "corrupt_source", False),
    }


BOMBS = _bombs()
