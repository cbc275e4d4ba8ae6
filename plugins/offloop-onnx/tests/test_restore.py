"""Restore: what it removes, tiles, alpha, dtypes, progress."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from bench_quality import psnr
from PIL import Image

from offloop.errors import InvalidTask
from offloop.operation import Header
from offloop_onnx import OnnxPlugin, Restore
from offloop_onnx.shipped_models import RESTORERS

from .conftest import Array, Bench

PHOTO = Path(__file__).parents[3] / "docs" / "photos" / "astronaut.jpg"


@pytest.fixture(scope="module")
def face() -> Array:
    """A part of a photograph, 160 x 130 pixels."""
    return np.ascontiguousarray(pyvips.Image.new_from_file(str(PHOTO)).crop(150, 40, 160, 130).numpy())


def compressed(samples: Array, quality: int) -> Array:
    encoded = io.BytesIO()
    Image.fromarray(samples).save(encoded, "JPEG", quality=quality)
    return np.asarray(Image.open(encoded))


@pytest.mark.parametrize(("strength", "quality"), [("light", 60), ("strong", 25)])
def test_the_traces_of_compression_are_removed(bench: Bench, face: Array, strength: Any, quality: int) -> None:
    damaged = compressed(face, quality)
    restored = bench.run(damaged, Restore(strength))
    assert (restored.shape, restored.dtype) == (damaged.shape, np.uint8)
    assert psnr(face, restored) > psnr(face, damaged) + 0.3
    assert bench.info["model_sha256"] == RESTORERS[strength].sha256
    assert bench.info["tiles"] == 1


def test_tiles_do_not_show(bench: Bench, face: Array) -> None:
    whole = bench.run(face, Restore(tile=1024)).astype(int)
    assert np.abs(bench.run(face, Restore(tile=48)) - whole).max() <= 1
    assert bench.info["tiles"] == 12


@pytest.mark.parametrize("dtype", ["|u1", "<u2", "<f4"])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_bands_and_depth_are_kept_and_alpha_is_as_it_was(bench: Bench, face: Array, dtype: str, bands: int) -> None:
    white = {"|u1": 255, "<u2": 65535, "<f4": 255}[dtype]
    alpha = np.random.default_rng(5).integers(0, 256, (64, 64, 1))
    colours = face[:64, :64, : 1 if bands < 3 else 3]
    source = (np.concatenate([colours, alpha], axis=-1)[..., :bands] * (white // 255)).astype(dtype)
    if bands in (2, 4):
        source[..., -1] = alpha[..., 0] * (white // 255)
    result = bench.run(source, Restore(tile=32))
    assert (result.shape, result.dtype) == (source.shape, np.dtype(dtype))
    assert np.abs(result / white - source / white)[..., : bands - (bands in (2, 4))].mean() < 0.05
    if bands in (2, 4):
        assert np.allclose(result[..., -1], source[..., -1], rtol=1e-6)


def test_it_has_an_estimate_of_the_size_of_its_source() -> None:
    header = Header(media_type="", width=999, height=700, bands=3)
    found = OnnxPlugin().estimate(header, [Restore()], 999 * 700 * 3)
    assert found is not None
    assert found.output_bytes == 999 * 700 * 3
    assert found.work_s is not None
    larger = OnnxPlugin().estimate(header, [Restore(tile=512)], 999 * 700 * 3)
    assert larger is not None
    assert larger.peak_bytes > 1.5 * found.peak_bytes


def test_an_unknown_strength_is_refused() -> None:
    with pytest.raises(InvalidTask, match="strength='heavy'"):
        Restore("heavy")  # type: ignore[arg-type]
