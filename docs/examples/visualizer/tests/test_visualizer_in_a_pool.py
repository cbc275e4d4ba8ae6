"""The plugin in a real pool: frames as they come, as files of another plugin, live, and bad sources."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from offloop import Encoded, Pool, TaskFailed
from offloop.testing import InlineTask
from offloop_vips import Jpeg, Webp
from offloop_visualizer import Visualize
from offloop_visualizer.processor import VisualizerProcessor

from .music import click_times, click_track, wav_file

pytestmark = pytest.mark.anyio

SOURCE = wav_file(click_track(click_times(120, 3), 3))


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}  # one loop, because the tests of `Pool.stream` are run on all


@pytest.fixture(scope="module")
async def pool(anyio_backend: object) -> AsyncIterator[Pool]:
    async with Pool(1, plugins=["visualizer", "vips"]) as pool:
        yield pool


async def test_the_frames_of_a_worker_are_those_of_this_process(pool: Pool) -> None:
    operation, task = Visualize(320, 180, seconds=0.5), InlineTask()
    VisualizerProcessor().run(Encoded(SOURCE), [operation], task)
    async with pool.stream(SOURCE, [operation]) as frames:
        seen = [bytes(frame) async for frame in frames]
    assert seen == [bytes(payload.data) for _, payload in task.emitted]
    assert len(seen) == 30


async def test_full_frames_stay_within_the_estimate(pool: Pool) -> None:
    async with pool.stream(SOURCE, [Visualize(seconds=0.2)]) as frames:
        shapes = [frame.array().shape async for frame in frames]
    assert shapes == [(720, 1280, 4)] * 12


async def test_another_plugin_encodes_each_frame(pool: Pool) -> None:
    async with pool.stream(SOURCE, [Visualize(320, 180, fps=10, seconds=0.5), Jpeg()]) as frames:
        files = [(frame.info.media_type, bytes(frame.data[:2])) async for frame in frames]
    assert files == [("image/jpeg", b"\xff\xd8")] * 5


async def test_a_poster_is_one_result(pool: Pool) -> None:
    poster = await pool.run(SOURCE, [Visualize(320, 180, start_s=2.25), Webp()])
    assert (poster.info.media_type, poster.info.width, poster.info.height) == ("image/webp", 320, 180)


async def test_a_slow_reader_of_live_frames_gets_the_newest(pool: Pool) -> None:
    operation = Visualize(64, 64, fps=200, seconds=0.5, pace="live")
    async with pool.stream(SOURCE, [operation], buffer=1, overrun="latest") as frames:
        ticks = [frame.info.tick async for frame in frames]
    assert ticks == sorted(set(ticks))
    assert len(ticks) + frames.dropped <= 100


@pytest.mark.parametrize(
    ("source", "code"),
    [(b"no music", "unsupported_format"), (SOURCE[:30], "broken_audio"), (SOURCE[:44], "no_audio"), (SOURCE[:45], "no_audio")],
)
async def test_a_bad_source_is_an_error_with_a_code(pool: Pool, source: bytes, code: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        async with pool.stream(source, [Visualize()]) as frames:
            await anext(frames)
    assert caught.value.code == code


async def test_a_truncated_file_is_drawn_to_its_end(pool: Pool) -> None:
    async with pool.stream(SOURCE[: len(SOURCE) // 3 + 1], [Visualize(64, 64, fps=10)]) as frames:
        count = len([frame async for frame in frames])
    assert count == np.ceil(10 * (len(SOURCE) // 3 - 44) // 2 / 22_050)
