"""Changed copies of real files: a typed error, or a picture that Pillow agrees with, and no worker dies.

The environment variables OFFLOOP_MUTATIONS and OFFLOOP_SEED give more of them: thousands take some minutes.
"""

from __future__ import annotations

import io
import os
import warnings
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from offloop import Pool, TaskFailed
from offloop_vips import Decode, Raw

from .mutated_files import mutated_files

COUNT, SEED = int(os.environ.get("OFFLOOP_MUTATIONS", "126")), int(os.environ.get("OFFLOOP_SEED", "1"))
MAX_PIXELS = 5_000_000
CODES = {"corrupt_source", "unsupported_format", "too_many_pixels", "too_many_pages", "too_many_bands", "too_much_metadata"}
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
MAX_SCREEN = 2048  # of a GIF; libnsgif takes a larger one for damage, and the size of the first frame for that of the picture
VISIBLE = 24  # levels; decoders differ by less


def by_pillow(data: bytes) -> Image.Image | None:
    """Returns the picture that Pillow reads, upright; None if it refuses the file, or reads another size by intention."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS or (image.format == "GIF" and _has_other_canvas(image)):
                return None
            image.load()
            return ImageOps.exif_transpose(image)
        except (OSError, ValueError, SyntaxError, ArithmeticError, LookupError, TypeError, RuntimeError):
            return None


def _has_other_canvas(image: Any) -> bool:
    """Whether a GIF has a screen that libnsgif ignores, or that the first frame does not fill. Each reader fills the rest with
    a colour of its own."""
    return max(image.size) > MAX_SCREEN or (bool(image.tile) and tuple(image.tile[0][1]) != (0, 0, *image.size))


def disagreement(shown: Any, data: bytes) -> str | None:
    """Returns how a picture differs from that of Pillow; None if it does not, or if there is none to compare with."""
    image = by_pillow(data)
    if image is None:
        return None
    bands = shown.shape[2]
    other = np.asarray(image.convert(MODES[bands])).astype(int)
    other = other if other.ndim == 3 else other[..., np.newaxis]
    if shown.shape != other.shape:
        return f"{shown.shape} and {other.shape}"
    difference = np.abs(shown - other)
    if bands in (2, 4):  # Pillow fills the canvas outside of a frame with a colour, and other software leaves it transparent
        difference = difference[shown[..., -1] > 0]
        difference = difference * (other[shown[..., -1] > 0][:, -1:] > 0)
    part = float((difference > VISIBLE).mean()) if difference.size else 0.0
    return f"{part:.1%} of the samples" if part > 0.01 else None


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.timeout(1800 if COUNT > 1000 else 100)
async def test_a_changed_file_is_refused_or_shown_as_pillow_shows_it() -> None:
    files = list(mutated_files(COUNT, SEED))
    wrong, shown = list[str](), 0
    async with Pool(1, plugins=["vips"]) as pool:
        sources, steps = [data for _, data in files], [Decode(max_pixels=MAX_PIXELS), Raw()]
        async with pool.map(sources, steps, timeout=60, max_in_flight=4) as outcomes:
            async for outcome in outcomes:
                name, data = files[outcome.index]
                if outcome.error is not None:
                    if not isinstance(outcome.error, TaskFailed) or outcome.error.code not in CODES:
                        wrong.append(f"{outcome.index}, {name}: {outcome.error}")
                    continue
                shown += 1
                found = disagreement(outcome.unwrap().array().astype(int), data)
                if found is not None:
                    wrong.append(f"{outcome.index}, {name}: {found}")
        assert wrong == []
        assert shown > COUNT / 10, "otherwise nothing was compared"
        assert pool.statistics().worker_crashes == 0
