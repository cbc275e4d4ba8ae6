"""The tasks of all contenders of `bench_mixed.py`, a thumbnail and a panorama that cannot be processed in strips, and their
files.

A panorama is turned by 90 degrees, so all of it must be decoded before the first line of the output. Its JPEG has optimized
Huffman tables, so all of its coefficients are in memory, too. It needs about 9 bytes per pixel: 1 GiB for 120 megapixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, TypeAlias

from thumbnails import processor

from offloop import Encoded
from offloop.operation import Operation
from offloop.testing import InlineTask
from offloop_vips import Blur, Decode, Jpeg, Resize, Rotate, Webp

__all__ = ["PIPELINES", "Kind", "Size", "carry_out", "pictures"]

Kind: TypeAlias = Literal["large", "small"]
Size: TypeAlias = tuple[int, int]

PIPELINES: dict[Kind, list[Operation]] = {
    "large": [Decode(max_pixels=200_000_000), Rotate(90), Blur(), Jpeg()],
    "small": [Resize(200), Webp()],
}

_PHOTOS = Path(__file__).parents[1] / "docs" / "photos"
_ACROSS, _DOWN = 4, 4  # columns and rows of photographs in a picture
_GRAIN = 4.0  # standard deviation of added sensor noise, because an enlarged photograph would compress too well


def carry_out(kind: Kind, path: str) -> bytes:
    """The task of the peers: the same as in an offloop worker, on one thread of libvips."""
    source = Path(path).read_bytes()
    return bytes(processor().run(Encoded(memoryview(source)), PIPELINES[kind], InlineTask()).data)


def pictures(folder: Path, sizes: Sequence[Size]) -> list[str]:
    """Returns paths of JPEG files of these sizes. Each is made once, and kept in the folder for the next run."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"mosaic-{width}x{height}-grain{_GRAIN:g}.jpg" for width, height in sizes]
    missing = {path: size for path, size in zip(paths, sizes, strict=True) if not path.exists()}
    if missing:
        with ProcessPoolExecutor(
            1, mp_context=get_context("spawn")
        ) as executor:  # because the measuring process must not load libvips
            list(executor.map(_make, missing, missing.values()))
    return [str(path) for path in paths]


def _make(path: Path, size: Size) -> None:
    import pyvips

    width, height = size[0] // _ACROSS, size[1] // _DOWN
    names = ("astronaut.jpg", "rocket.jpg", "hubble-deep-field.jpg", "chelsea.png")
    tiles = [
        pyvips.Image.thumbnail(str(_PHOTOS / name), width, height=height, crop="centre").colourspace("srgb").copy_memory()
        for name in names
    ]
    places = [tiles[(place + place // _ACROSS) % len(tiles)] for place in range(_ACROSS * _DOWN)]
    mosaic = pyvips.Image.arrayjoin(places, across=_ACROSS)
    grain = pyvips.Image.gaussnoise(mosaic.width, mosaic.height, sigma=_GRAIN)
    unfinished = path.with_suffix(f".{os.getpid()}")
    (mosaic + grain).cast("uchar").copy(interpretation="srgb").jpegsave(str(unfinished), Q=85)
    unfinished.rename(path)
