"""The plugin in a real pool: one task that decodes, cuts out and encodes; tasks that are stopped; models that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop import InvalidTask, Pool
from offloop.sandbox import LAYERS
from offloop_onnx import OnnxPlugin, RemoveBackground, Upscale
from offloop_vips import Decode, Png, Raw, Resize, Webp

from .conftest import Array

pytestmark = pytest.mark.anyio

PORTRAIT = Path(__file__).parents[3] / "docs" / "photos" / "astronaut.jpg"


@pytest.fixture
async def pool(anyio_backend: object, tmp_path: Path) -> AsyncIterator[Pool]:
    plugins = ["vips", OnnxPlugin(model_directories=[tmp_path])]
    async with Pool(1, plugins=plugins, memory_limit="1GiB", timeout=30) as pool:
        yield pool


def samples(data: bytes) -> Array:
    return pyvips.Image.new_from_buffer(data, "").numpy().astype(int)


async def test_one_task_decodes_shrinks_cuts_out_and_encodes(pool: Pool) -> None:
    result = await pool.run(PORTRAIT, [Resize(200, fit="inside"), RemoveBackground(), Webp(lossless=True)])
    cut = samples(bytes(result))
    assert result.info.model == "MediaPipe selfie segmentation", (
        "the encoder, which is another plugin's, keeps the model's card"
    )
    assert (result.info.media_type, cut.shape) == ("image/webp", (200, 200, 4))
    assert cut[70, 90, 3] == 255  # the face
    assert cut[5, 5].tolist() == [0, 0, 0, 0]
    raster = await pool.run(PORTRAIT, [Resize(200, fit="inside"), Raw()])
    alone = await pool.run(raster, [RemoveBackground()])
    assert 0.4 < alone.info.coverage < 0.65
    posture = pool.statistics().groups["onnx"].sandbox
    assert posture is not None
    assert set(posture.layers) | posture.missing.keys() == set(LAYERS), "onnxruntime ran in the sandbox of this kernel"
    visible = cut[..., 3] > 100
    assert np.array_equal(alone.array()[..., 3], cut[..., 3])
    assert np.abs(alone.array()[visible].astype(int) - cut[visible]).max() <= 2  # colours under alpha are rounded by an encoder
    with pytest.raises(InvalidTask, match="the source is encoded"):
        await pool.run(PORTRAIT, [RemoveBackground(), Webp()])
    assert (await pool.run(raster, [Upscale(), Raw()])).array().shape == (400, 400, 3)
    assert (await pool.run(PORTRAIT, [Decode(), Resize(64), Raw(), RemoveBackground(mask_only=True)])).array().shape == (
        64,
        64,
        1,
    )


def cut_portrait(bands: int = 3) -> Any:
    image: Any = pyvips.Image.thumbnail(str(PORTRAIT), 200).copy()
    return image if bands == 3 else image.colourspace("b-w")


def opaque_difference(cut: Any, source: Any) -> float:
    """Returns the largest difference of the colours where the person is opaque."""
    samples, expected = cut.numpy().astype(int), source.numpy().astype(int).reshape(200, 200, -1)
    inside = samples[..., -1] == samples[..., -1].max()
    assert 0.3 < inside.mean() < 0.7
    return np.abs(samples[..., :-1] - expected)[inside].max()


async def test_wide_colours_arrive_with_their_profile(pool: Pool) -> None:
    wide = cut_portrait().icc_transform("p3", input_profile="srgb")
    source = wide.pngsave_buffer(keep="icc")
    result = await pool.run(source, [Decode(colours="p3"), Raw(), RemoveBackground(), Png()])
    assert result.info.colour_space == "Display P3"
    cut = pyvips.Image.new_from_buffer(bytes(result), "")
    assert cut.get("icc-profile-data") == pyvips.Operation.call("profile_load", "p3")
    assert opaque_difference(cut, wide) <= 1
    converted = pyvips.Image.new_from_buffer(bytes(await pool.run(source, [Decode(), Raw(), RemoveBackground(), Png()])), "")
    assert converted.get_typeof("icc-profile-data") == 0
    assert opaque_difference(converted, cut_portrait()) <= 3


async def test_sixteen_bits_arrive(pool: Pool) -> None:
    deep = (cut_portrait() * 257 - 100).cast("ushort").copy(interpretation="rgb16")
    result = await pool.run(deep.pngsave_buffer(bitdepth=16), [Decode(), Raw("uint16"), RemoveBackground(), Png(bitdepth=16)])
    cut = pyvips.Image.new_from_buffer(bytes(result), "")
    assert cut.format == "ushort"
    assert opaque_difference(cut, deep) == 0


async def test_cmyk_grey_and_turned_pictures_are_cut_out(pool: Pool) -> None:
    cmyk = cut_portrait().icc_transform("cmyk", input_profile="srgb").jpegsave_buffer(Q=95, keep="icc")
    turned = cut_portrait().rot270().copy()
    turned.set_type(pyvips.GValue.gint_type, "orientation", 6)
    grey = cut_portrait(1).bandjoin(255).copy(interpretation="b-w")
    cuts: list[Any] = []
    for source in (cmyk, turned.jpegsave_buffer(Q=95), grey.pngsave_buffer()):
        result = await pool.run(source, [Resize(200), RemoveBackground(), Png()])
        cuts.append(pyvips.Image.new_from_buffer(bytes(result), ""))
        assert 0.4 < result.info.coverage < 0.65
    assert [cut.bands for cut in cuts] == [4, 4, 2]
    assert opaque_difference(cuts[0], cut_portrait()) < 120, "colours that CMYK cannot have are others, but not wrong"
    assert opaque_difference(cuts[1], cut_portrait()) < 60
    assert opaque_difference(cuts[2], cut_portrait(1)) == 0
