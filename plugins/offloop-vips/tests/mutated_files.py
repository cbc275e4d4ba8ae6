"""Real files of every format, and changed copies of them: always the same ones for a seed."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image

__all__ = ["mutated_files"]

PHOTO = Path(__file__).parents[3] / "docs" / "photos" / "coffee.webp"
ORIENTATION = 0x112


def mutated_files(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Iterates over names of formats and files."""
    chance, files = random.Random(seed), _files()
    names = list(files)
    for number in range(count):
        name = names[number % len(names)]
        yield name, _mutated(files[name], chance)


def _files() -> dict[str, bytes]:
    with Image.open(PHOTO) as photo:
        picture = photo.convert("RGB").resize((150, 100))
    clear, small, exif = picture.copy(), picture.resize((60, 40)), Image.Exif()
    clear.putalpha(picture.convert("L"))
    exif[ORIENTATION] = 6
    samples: Any = pyvips.Image.new_from_array(np.asarray(picture)).copy(interpretation="srgb")
    turned = [small.rotate(30), small.rotate(60)]
    return {
        "JPEG": _file(picture, "JPEG", quality=85, exif=exif),
        "progressive JPEG": _file(picture, "JPEG", progressive=True),
        "grey JPEG": _file(picture.convert("L"), "JPEG"),
        "JPEG with restarts": samples.jpegsave_buffer(restart_interval=4, keep="none"),
        "PNG": _file(picture, "PNG"),
        "PNG with alpha": _file(clear, "PNG"),
        "PNG with a palette": _file(picture.quantize(64), "PNG"),
        "interlaced PNG": samples.pngsave_buffer(interlace=True, keep="none"),
        "WebP": _file(picture, "WEBP"),
        "lossless WebP": _file(clear, "WEBP", lossless=True),
        "WebP with alpha": _file(clear, "WEBP"),
        "animated WebP": _file(small, "WEBP", save_all=True, append_images=turned),
        "GIF": _file(picture, "GIF"),
        "animated GIF": _file(small, "GIF", save_all=True, append_images=turned),
        "TIFF": _file(picture, "TIFF"),
        "deflated TIFF": _file(picture, "TIFF", compression="tiff_adobe_deflate"),
        "TIFF with LZW": _file(picture, "TIFF", compression="tiff_lzw"),
        "TIFF with JPEG": samples.tiffsave_buffer(compression="jpeg", keep="none"),
        "TIFF of tiles": samples.tiffsave_buffer(compression="deflate", tile=True, tile_width=64, tile_height=64, keep="none"),
        "AVIF": _file(picture, "AVIF"),
        "AVIF with alpha": _file(clear, "AVIF"),
    }


def _file(picture: Image.Image, name: str, **options: Any) -> bytes:
    made = io.BytesIO()
    picture.save(made, name, **options)
    return made.getvalue()


def _mutated(source: bytes, chance: random.Random) -> bytes:
    data = bytearray(source)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(min(len(data), chance.choice((64, 1024, len(data)))))  # most structure is at the start
        _mutate(data, at, chance.choice((1, 1, 2, 4, 16, 100, 500)), chance)
    return bytes(data)


def _mutate(data: bytearray, at: int, length: int, chance: random.Random) -> None:
    match chance.randrange(8):
        case 0:
            data[at] ^= 1 << chance.randrange(8)
        case 1:
            data[at : at + length] = chance.randbytes(length)
        case 2:
            data[at : at + length] = bytes(length)
        case 3:
            data[at : at + length] = b"\xff" * length
        case 4:
            del data[at : at + min(length, len(data) - 20)]
        case 5:
            data[at:at] = data[at : at + length]
        case 6:
            del data[max(at, 20) :]
        case _:
            number = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF)).to_bytes(4, "big")
            data[at : at + 4] = chance.choice((number, number[::-1]))
