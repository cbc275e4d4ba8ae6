"""The plugin in a real pool: one task that decodes, cuts out and encodes; tasks that are stopped; models that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pyvips

from offloop import InvalidTask, Pool
from offloop.sandbox import LAYERS
from offloop_onnx import OnnxPlugin, RemoveBackground, Upscale
from offloop_vips import Decode, Raw, Resize, Webp

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
