"""`Preview`: a small picture before the result, with its crop, and without an effect on the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips

from offloop import Encoded, InvalidTask, Operation, Payload, Pool, Raster, Result, TaskFailed
from offloop.testing import InlineTask
from offloop_vips import AutoOrient, Blur, Decode, Grayscale, Jpeg, Png, Preview, Raw, Resize, Rotate, Tint, Webp
from offloop_vips.processor import VipsProcessor
from offloop_vips.processor.first_scans import first_scans

Array = Any  # a numpy array
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


def run(processor: VipsProcessor, payload: Payload, operations: Sequence[Operation]) -> tuple[Array, Array]:
    """Returns the samples of the preview and of the result."""
    task = InlineTask()
    result = processor.run(payload, operations, task)
    (preview,) = task.previews
    return read(preview), read(result)


def read(payload: Payload) -> Array:
    if isinstance(payload, Raster):
        return np.frombuffer(payload.data, payload.dtype).reshape(payload.shape).astype(float)
    return samples(pyvips.Image.new_from_buffer(bytes(payload.data), ""))


def samples(image: Any) -> Array:
    array = image.numpy().astype(float)
    return array if array.ndim == 3 else array[:, :, np.newaxis]


def reduced(array: Array, width: int, height: int) -> Array:
    image: Any = pyvips.Image.new_from_array(array.astype("u1"))
    return samples(image.resize(width / image.width, vscale=height / image.height))


FILES: dict[str, dict[str, Any]] = {
    "baseline.jpg": {"Q": 90},
    "progressive.jpg": {"Q": 90, "interlace": True},
    "a.png": {},
    "interlaced.png": {"interlace": True},
    "a.webp": {"Q": 90},
    "a.tif": {},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_preview_is_the_result_in_small(
    processor: VipsProcessor, bench: Any, smooth: Callable[..., Array], name: str, orientation: int
) -> None:
    data = bench.file(smooth(1200, 800), f".{name.partition('.')[2]}", orientation, **FILES[name])
    pipelines: list[list[Operation]] = [
        [Preview(60, "png"), Raw()],
        [Resize(500, 300), Preview(60, "png"), Raw()],
        [Resize(300, 300, fit="contain", background="red"), Preview(60, "png"), Raw()],
        [Resize(600, 200, fit="fill"), Rotate(90), Grayscale(), Preview(60, "png"), Raw()],
        [Resize(20), Preview(60, "png"), Raw()],
    ]
    for operations in pipelines:
        preview, result = run(processor, Encoded(data), operations)
        alone = read(processor.run(Encoded(data), [step for step in operations if not isinstance(step, Preview)], InlineTask()))
        assert np.array_equal(result, alone), "the result is the same with a preview"
        height, width, _ = preview.shape
        assert max(height, width) == min(60, max(result.shape[:2]))
        wanted = reduced(result, width, height)
        assert wanted.shape[:2] == (height, width)
        assert float(np.abs(preview[..., : wanted.shape[2]] - wanted).mean()) < 4.0


def test_the_source_may_be_a_raster(processor: VipsProcessor, smooth: Callable[..., Array]) -> None:
    array = smooth(400, 300)
    preview, result = run(processor, Raster(array.tobytes(), array.shape, "|u1"), [Preview(40, "png"), Blur(2), Raw()])
    assert (preview.shape, result.shape) == ((30, 40, 3), (300, 400, 3))


def test_an_animation_has_a_preview_of_its_first_frame(processor: VipsProcessor, bench: Any) -> None:
    frames = [np.full((80, 100, 3), level, "u1") for level in (30, 120, 210)]
    data = bench.animation(frames, ".webp", [100, 100, 100])
    preview, _ = run(processor, Encoded(data), [Decode(pages=-1), Preview(50, "png"), Webp()])
    assert preview.shape == (40, 50, 3)
    assert np.abs(preview - 30).max() <= 2


@pytest.mark.parametrize("encoder", ["webp", "jpeg", "png"])
def test_a_preview_has_its_own_format(processor: VipsProcessor, encoder: Any) -> None:
    task = InlineTask()
    processor.run(Encoded((PHOTOS / "astronaut.jpg").read_bytes()), [Preview(32, encoder), Png()], task)
    assert (task.previews[0].info["format"], task.previews[0].info["width"]) == (encoder, 32)


# The first scans of a progressive JPEG


@pytest.mark.parametrize("bands", [1, 3])
def test_the_first_scans_are_a_small_file_with_the_whole_picture(smooth: Callable[..., Array], bands: int) -> None:
    noise = np.random.default_rng(1).integers(-20, 20, (600, 800, bands))
    array = np.clip(smooth(800, 600, bands) + noise, 0, 255).astype("u1")
    image: Any = pyvips.Image.new_from_array(array).copy(interpretation="srgb" if bands == 3 else "b-w")
    data = image.jpegsave_buffer(Q=90, interlace=True)
    scans = first_scans(memoryview(data))
    assert scans is not None
    assert len(scans) < len(data) / 5
    small: Any = pyvips.Image.jpegload_buffer(scans, shrink=8)  # type: ignore[attr-defined]
    whole: Any = pyvips.Image.jpegload_buffer(data, shrink=8)  # type: ignore[attr-defined]
    assert float(np.abs(small.numpy().astype(float) - whole.numpy()).mean()) < 2.0


def test_what_is_no_progressive_jpeg_has_no_first_scans(smooth: Callable[..., Array]) -> None:
    image: Any = pyvips.Image.new_from_array(smooth(64, 64))
    progressive, baseline = image.jpegsave_buffer(interlace=True), image.jpegsave_buffer()
    for data in (baseline, b"", b"\xff\xd8\xff", progressive[:100], progressive[:300], b"\xff" * 5000, bytes(5000)):
        assert first_scans(memoryview(data)) is None


# What a preview must not do


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_damage_is_the_failure_of_the_result_and_not_of_the_preview(
    processor: VipsProcessor, bench: Any, smooth: Callable[..., Array], suffix: str
) -> None:
    options = {"interlace": True} if suffix == ".jpg" else {}
    data = bench.file(smooth(800, 600), suffix, **options)
    task = InlineTask()
    with pytest.raises(TaskFailed) as caught:
        processor.run(Encoded(data[: len(data) * 9 // 10]), [Preview(), Resize(700), Png()], task)
    assert caught.value.code == "corrupt_source"
    assert len(task.previews) == (suffix == ".jpg")


@pytest.mark.parametrize(
    ("operations", "reason"),
    [
        ([Blur(3), Preview()], "cannot come after Blur"),
        ([Rotate(30), Preview()], "cannot come after Rotate"),
        ([Resize(30), Resize(20), Preview()], "comes after two Resize"),
        ([Preview(), Resize(30), Preview(9)], "is a second Preview"),
        ([Webp(), Preview()], "ends a pipeline"),
        ([Preview(), Decode()], "can only be the first step"),
    ],
)
def test_a_preview_in_a_wrong_position_is_refused(processor: VipsProcessor, operations: list[Operation], reason: str) -> None:
    with pytest.raises(InvalidTask, match=reason):
        processor.run(Encoded((PHOTOS / "astronaut.jpg").read_bytes()), operations, InlineTask())


def test_steps_of_any_size_may_follow(processor: VipsProcessor) -> None:
    source = Encoded((PHOTOS / "chelsea.png").read_bytes())
    preview, result = run(processor, source, [AutoOrient(), Tint("red"), Preview(), Resize(90), Blur(), Rotate(30), Raw()])
    assert max(preview.shape) == 64
    assert max(result.shape) > 90


@pytest.mark.anyio
async def test_previews_come_from_a_pool(anyio_backend: object) -> None:
    photo = (PHOTOS / "astronaut.jpg").read_bytes()
    async with Pool(1, plugins=["vips"]) as pool:
        seen: list[Result] = []
        result = await pool.run(photo, [Resize(300, 200), Preview(), Webp()], on_preview=seen.append)
        assert [(preview.info.width, preview.info.height) for preview in seen] == [(64, 43)]
        assert result.info.width == 300
        named: dict[str, list[Operation]] = {"card": [Preview(), Resize(300), Jpeg()], "icon": [Resize(32), Png()]}
        async with pool.run_many(photo, named) as outcomes:
            found = [(name, outcome.preview, outcome.unwrap().info.width) async for name, outcome in outcomes]
        assert found == [("card", True, 64), ("card", False, 300), ("icon", False, 32)]
        async with pool.map([photo], [Preview(16), Resize(99), Webp()]) as batch:
            assert [(outcome.preview, outcome.unwrap().info.width) async for outcome in batch] == [(True, 16), (False, 99)]
        outcomes_without_encoder = await pool.run_many(photo, {name: [Resize(32)] for name in "abc"})
        formats = [outcome.unwrap().info.format for outcome in outcomes_without_encoder.values()]
        assert formats == ["jpeg"] * 3
