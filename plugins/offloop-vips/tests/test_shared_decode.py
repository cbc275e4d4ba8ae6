"""`run_many`: pipelines on one picture share a decode, and give the pictures that they give alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offloop import Encoded, Operation, Payload, TaskFailed
from offloop.testing import InlineTask
from offloop_vips import Blur, Decode, Jpeg, Png, Raw, Resize, Webp
from offloop_vips.processor.vips_processor import VipsProcessor

PHOTOS = Path(__file__).parents[3] / "docs" / "photos"


class _Worker:
    slot = 0
    settings = None

    def retire(self) -> None:
        pass


@pytest.fixture(scope="module")
def processor() -> VipsProcessor:
    made = VipsProcessor()
    made.open(_Worker())
    return made


def together(processor: VipsProcessor, data: bytes, pipelines: list[list[Operation]]) -> list[Payload | Exception]:
    found = dict(processor.run_many(Encoded(data), pipelines, InlineTask()))
    return [found[index] for index in range(len(pipelines))]


def samples(payload: Payload | Exception) -> Any:
    assert not isinstance(payload, Exception), payload
    assert not isinstance(payload, Encoded)
    return np.frombuffer(payload.data, payload.dtype).reshape(payload.shape).astype(float)


@pytest.mark.parametrize("name", ["astronaut.jpg", "chelsea.png", "coffee.webp", "galaxies.avif"])
def test_pictures_are_those_of_a_run_alone(processor: VipsProcessor, name: str) -> None:
    data = (PHOTOS / name).read_bytes()
    pipelines: list[list[Operation]] = [
        [Resize(200), Raw()],
        [Resize(40), Raw()],
        [Blur(2), Resize(100), Raw()],
        [Raw()],
    ]
    for operations, payload in zip(pipelines, together(processor, data, pipelines), strict=True):
        alone = samples(processor.run(Encoded(data), operations, InlineTask()))
        shared = samples(payload)
        assert shared.shape == alone.shape
        squared_error = float(np.square(shared - alone).mean())
        assert squared_error < 6.0, "at least 40 dB: only the detail that a decoder skips differs"


def test_each_pipeline_has_its_own_format_and_its_own_failure(processor: VipsProcessor) -> None:
    data = (PHOTOS / "astronaut.jpg").read_bytes()
    pipelines: list[list[Operation]] = [
        [Resize(64), Webp()],
        [Jpeg(), Resize(64)],
        [Resize(64), Png()],
        [Decode(formats=("png",)), Resize(64)],
    ]
    webp, order, png, refused = together(processor, data, pipelines)
    assert isinstance(webp, Encoded)
    assert isinstance(png, Encoded)
    assert (webp.info["format"], png.info["format"]) == ("webp", "png")
    assert "ends a pipeline" in str(order)
    assert isinstance(refused, TaskFailed)
    assert refused.code == "unsupported_format"


def test_a_damaged_source_is_the_failure_of_every_pipeline(processor: VipsProcessor) -> None:
    data = (PHOTOS / "astronaut.jpg").read_bytes()
    found = together(processor, data[: len(data) // 2], [[Resize(64), Webp()], [Resize(32), Webp()]])
    assert [getattr(error, "code", None) for error in found] == ["corrupt_source", "corrupt_source"]
