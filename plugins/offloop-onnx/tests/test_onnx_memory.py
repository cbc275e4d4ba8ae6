"""Memory of the workers: what remains after a large picture, and the estimates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import pyvips

from offloop import Pool
from offloop.operation import Estimate, Header, Operation, Plugin, SourceHeader
from offloop.plugins.estimator import Estimator, SourceHead
from offloop_onnx import OnnxModel, OnnxPlugin, RemoveBackground, Restore, RunModel, Upscale
from offloop_vips import Resize, VipsPlugin, Webp

from .tiny_networks import card

PORTRAIT = Path(__file__).parents[3] / "docs" / "photos" / "astronaut.jpg"
ASYNCIO = pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": False})], ids=["asyncio"])


def worker_bytes() -> int:
    """Returns the private memory of the worker with the most, in bytes."""
    lists = Path("/proc/self/task").glob("*/children")  # of each thread, because a thread starts the workers
    children = [pid for text in lists for pid in text.read_text().split()]
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in children if is_worker(pid)]
    return max(int(size) * 1024 for status in statuses for size in re.findall(r"RssAnon:\s+(\d+)", status))


def is_worker(pid: str) -> bool:
    return b"offloop.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


async def idle_bytes(below: float) -> int:
    """Waits until the private memory of the idle worker is less than that. Returns it."""
    while (size := worker_bytes()) >= below:
        await anyio.sleep(0.02)  # the worker gives free memory back when it has been idle for a second
    return size


@pytest.mark.anyio
@ASYNCIO
@pytest.mark.parametrize(
    ("operation", "height", "width"),
    [(RemoveBackground(), 3000, 4000), (Upscale(), 100, 400), (Restore("strong"), 100, 400)],
    ids=lambda value: str(value).partition("(")[0],
)
async def test_an_idle_worker_has_its_memory_of_before(
    anyio_backend: object, operation: Operation, height: int, width: int
) -> None:
    """Tiles do not grow with the picture, so a few of them are enough for `Upscale` and `Restore`."""
    portrait: Any = pyvips.Image.thumbnail(str(PORTRAIT), width, height=height, size="force")
    async with Pool(1, plugins=["onnx"], memory_limit="1GiB", timeout=None) as pool:
        await pool.run(np.zeros((64, 64, 3), "u1"), [RemoveBackground()])
        with anyio.move_on_after(2):  # what the small task has freed is given back, or already was
            await idle_bytes(worker_bytes() - 1_000_000)
        before = worker_bytes()
        await pool.run(portrait.numpy(), [operation])
        assert await idle_bytes(1.2 * before) < 1.2 * before


def estimate(width: int, height: int, *operations: Operation, bands: int = 3) -> Estimate:
    header = Header(media_type="", width=width, height=height, bands=bands)
    found = OnnxPlugin().estimate(header, operations, width * height * bands)
    assert found is not None
    return found


def test_the_memory_of_a_task_does_not_grow_with_the_picture() -> None:
    for operation in (RemoveBackground(), RemoveBackground(mask_only=True), Upscale()):
        large, huge = estimate(4000, 3000, operation), estimate(20_000, 15_000, operation)
        assert huge.peak_bytes < 1.1 * large.peak_bytes
        assert huge.work_s > 15 * large.work_s


def test_the_result_of_the_largest_step_is_estimated() -> None:
    assert estimate(100, 50, RemoveBackground()).output_bytes == 100 * 50 * 4
    assert estimate(100, 50, RemoveBackground(mask_only=True)).output_bytes == 100 * 50
    assert estimate(100, 50, Upscale(), RemoveBackground()).output_bytes == 200 * 100 * 4
    assert estimate(100, 50, RemoveBackground(), Upscale()).output_bytes == 200 * 100 * 4


def test_a_larger_tile_and_a_feather_take_more_memory() -> None:
    assert estimate(999, 999, Upscale(tile=384)).peak_bytes > 2 * estimate(999, 999, Upscale()).peak_bytes
    assert estimate(9000, 999, RemoveBackground(feather=50)).peak_bytes > 2 * estimate(9000, 999, RemoveBackground()).peak_bytes


def test_without_a_header_the_memory_is_that_of_a_large_picture() -> None:
    found = OnnxPlugin().estimate(None, [RemoveBackground()], 0)
    assert found is not None
    assert found.peak_bytes >= estimate(6000, 4000, RemoveBackground(), bands=4).peak_bytes
    assert found.output_bytes == 0


def test_a_model_without_numbers_has_no_estimate_and_one_with_numbers_has() -> None:
    given: dict[str, Any] = {"path": "x", "sha256": "0" * 64, "size": (64, 64), **card()}
    header = Header(media_type="", width=100, height=100, bands=3)
    for operation in (RemoveBackground, RunModel):
        assert OnnxPlugin().estimate(header, [operation(model=OnnxModel(**given))], 30_000) is None
        known = OnnxModel(**given, peak_bytes=500_000_000, work_s=3)
        found = OnnxPlugin().estimate(header, [operation(model=known)], 30_000)
        assert found is not None
        assert found.peak_bytes > 500_000_000
        assert found.work_s > 3


def test_a_cut_out_after_a_resize_is_estimated_with_the_size_after_it() -> None:
    pipeline: list[tuple[Plugin, list[Operation]]] = [
        (VipsPlugin(), [Resize(600, fit="inside")]),
        (OnnxPlugin(), [RemoveBackground(feather=50), Upscale()]),
        (VipsPlugin(), [Webp()]),
    ]
    large = PORTRAIT.read_bytes()
    found, media_type = Estimator(pipeline).estimate([SourceHead(len(large), memoryview(large))])
    assert found is not None
    assert media_type == "image/jpeg"
    assert found.output_bytes == 1200 * 1200 * 4
    resize = VipsPlugin().source_after(SourceHeader(VipsPlugin().probe(memoryview(large)), len(large)), pipeline[0][1])
    assert resize == SourceHeader(Header(media_type="", width=600, height=600, bands=3), 600 * 600 * 3)
    cut = OnnxPlugin().source_after(resize, pipeline[1][1])
    assert cut == SourceHeader(Header(media_type="", width=1200, height=1200, bands=4), 1200 * 1200 * 4)
    webp = VipsPlugin().estimate(cut.header, [Webp()], cut.nbytes)
    assert webp is not None
    assert found.peak_bytes == max(webp.peak_bytes, estimate(600, 600, *pipeline[1][1]).peak_bytes)
