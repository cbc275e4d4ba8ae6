"""Pictures like photographs for `calibrate_vips.py`: soft shapes, fine stripes and a little noise, in every coding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyvips

__all__ = ["SIZES", "make_source"]

SIZES = {"xs": (300, 250), "s": (1200, 1000), "m": (4000, 3000), "l": (8000, 6000), "xl": (12_000, 10_000)}
FRAMES = 8  # number of frames of an animation
_TILE = 1500  # pixels; computing noise for a whole panorama would take longer than decoding it

_SAVERS: dict[str, Callable[[Any, str], None]] = {
    "base.jpg": lambda image, path: image.jpegsave(path, Q=88),
    "base444.jpg": lambda image, path: image.jpegsave(path, Q=92, subsample_mode="off"),
    "prog.jpg": lambda image, path: image.jpegsave(path, Q=88, interlace=True),
    "prog444.jpg": lambda image, path: image.jpegsave(path, Q=92, interlace=True, subsample_mode="off"),
    "grey.jpg": lambda image, path: image[0].jpegsave(path, Q=88),
    "greyprog.jpg": lambda image, path: image[0].jpegsave(path, Q=88, interlace=True),
    "cmyk.jpg": lambda image, path: image.icc_transform("cmyk", input_profile="srgb").jpegsave(path, Q=88, keep="none"),
    "8.png": lambda image, path: image.pngsave(path, compression=1),
    "inter.png": lambda image, path: image.pngsave(path, compression=1, interlace=True),
    "16.png": lambda image, path: (
        (image.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16").pngsave(path, compression=1)
    ),
    "rgba.png": lambda image, path: image.bandjoin(image[1]).pngsave(path, compression=1),
    "mask.png": lambda image, path: image[1].pngsave(path, compression=1),
    "lossy.webp": lambda image, path: image.webpsave(path, Q=82, effort=2),
    "alpha.webp": lambda image, path: image.bandjoin(image[1]).webpsave(path, Q=82, effort=2),
    "lossless.webp": lambda image, path: image.webpsave(path, lossless=True, effort=1),
    "one.gif": lambda image, path: image.gifsave(path, effort=2),
    "frames.gif": lambda image, path: image.gifsave(path, effort=2, page_height=image.height // FRAMES),
    "frames.webp": lambda image, path: image.webpsave(path, effort=1, page_height=image.height // FRAMES),
    "420.avif": lambda image, path: image.heifsave(path, compression="av1", effort=1, subsample_mode="on"),
    "444.avif": lambda image, path: image.heifsave(path, compression="av1", effort=1, subsample_mode="off"),
    "10.avif": lambda image, path: image.heifsave(path, compression="av1", effort=1, bitdepth=10),
}


def make_source(directory: Path, size: str, coding: str) -> Path:
    """Returns the file of a size and coding, and makes it if it does not exist. Frames of an animation have 1/8 of its
    height."""
    path = directory / f"{size}.{coding}"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        making = path.with_name(f"making.{path.name}")
        width, height = SIZES[size]
        _SAVERS[coding](_picture(width, height - height % FRAMES if coding.startswith("frames") else height), str(making))
        making.rename(path)
    return path


def _picture(width: int, height: int) -> Any:
    images: Any = pyvips.Image
    shapes = images.black(_TILE, _TILE)
    for cell in (256, 128, 64, 32, 16, 8):
        shapes += images.perlin(_TILE, _TILE, cell_size=cell, seed=cell) * (cell / 4)
    shapes = shapes.copy_memory()
    shapes = ((shapes - shapes.min()) * (255 / (shapes.max() - shapes.min()))).copy_memory()
    stripes = images.zone(_TILE, _TILE) * 20
    bands = [
        shapes.rot(turn) + stripes + images.gaussnoise(_TILE, _TILE, sigma=5, mean=0, seed=7) for turn in ("d0", "d90", "d180")
    ]
    tile = bands[0].bandjoin(bands[1:]).cast("uchar").copy(interpretation="srgb").copy_memory()
    row = tile.join(tile.fliphor(), "horizontal")
    block = row.join(row.flipver(), "vertical").copy_memory()
    return block.replicate(-(-width // block.width), -(-height // block.height)).crop(0, 0, width, height)
