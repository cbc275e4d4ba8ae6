"""The sandbox changes nothing: the same sources give the same bytes, and the same errors, with it and without it.

As a script, it compares thousands of changed files: python plugins/offloop-vips/tests/test_in_the_sandbox.py 2000
"""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import pyvips

from offloop import Operation, Outcome, Pool, TaskFailed, WorkerDied
from offloop.sandbox import SandboxMode
from offloop_vips import (
    Affine,
    Avif,
    Blur,
    BlurHash,
    Clahe,
    Extend,
    Flatten,
    Gif,
    Grayscale,
    IccProfile,
    Jpeg,
    Lqip,
    Median,
    Modulate,
    PerceptualHash,
    Png,
    Raw,
    Resize,
    Rotate,
    RoundCorners,
    Sharpen,
    Stats,
    Text,
    ThumbHash,
    Tiff,
    Tint,
    Trim,
    Webp,
)

pytestmark = pytest.mark.anyio

_CHANGES = 120  # changed files in CI
_MODES: tuple[SandboxMode, ...] = ("auto", "off")


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"use_uvloop": False}  # because a sandbox is the same in every loop


def pictures() -> list[bytes]:
    """A small picture in each format, some of them with alpha, an orientation, several pages or interlacing."""
    picture = pyvips.Image.gaussnoise(97, 61, mean=128, sigma=40, seed=7).bandjoin([90, 30]).cast("uchar")
    picture = picture.copy(interpretation="srgb")
    alpha = picture.bandjoin(picture[0])
    pages = alpha.join(alpha.rot180(), "vertical").copy()
    pages.set_type(pyvips.GValue.gint_type, "page-height", 61)
    return [
        picture.jpegsave_buffer(),
        picture.jpegsave_buffer(interlace=True),
        picture.pngsave_buffer(),
        alpha.pngsave_buffer(interlace=True),
        alpha.webpsave_buffer(lossless=True),
        picture.webpsave_buffer(),
        pages.webpsave_buffer(),
        pages.gifsave_buffer(),
        picture.tiffsave_buffer(),
        picture.heifsave_buffer(compression="av1", effort=0),
    ]


def changed(sources: Sequence[bytes], count: int, seed: int) -> list[bytes]:
    """The sources, and copies of them with changed, missing and repeated bytes."""
    chance = random.Random(seed)
    made = list(sources)
    for _ in range(count):
        data = bytearray(chance.choice(sources))
        for _ in range(chance.choice((1, 1, 3, 20))):
            place = chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[place] = chance.randrange(256)
                case 1:
                    data[place] ^= 1 << chance.randrange(8)
                case 2:
                    del data[place : place + chance.randrange(1, 40)]
                case _:
                    data[place:place] = data[: chance.randrange(40)]
            data = data or bytearray(b"\0")
        made.append(bytes(data))
    return made


def described(outcome: Outcome[Any]) -> tuple[object, ...]:
    """The bytes and the info of a result; the code and the text of an error."""
    error = outcome.error
    if error is None:
        assert outcome.result is not None
        return bytes(outcome.result), str(outcome.result.info)
    if isinstance(error, TaskFailed):
        return error.code, "" if error.code == "memory_limit" else error.message  # which has a limit that the pool has learned
    return (type(error), error.signal, error.exit_code) if isinstance(error, WorkerDied) else (type(error),)


@asynccontextmanager
async def both_pools() -> AsyncGenerator[list[Pool]]:
    """A pool with the sandbox, and one without it."""
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(Pool(1, plugins=["vips"], memory_limit="512MiB", sandbox=mode, timeout=None))
            for mode in _MODES
        ]
        assert [pool.sandbox.mode for pool in pools] == list(_MODES)
        yield pools


async def compare(sources: Sequence[bytes]) -> int:
    """Compare the outcomes of all sources. Returns the number of sources that gave a picture."""
    pipelines = [[Resize(40), Webp()], [Png()], [Resize(20), Jpeg()], [Avif(quality=30)]]
    made = 0
    async with both_pools() as pools:
        for number, pipeline in enumerate(pipelines):
            part = sources[number :: len(pipelines)]
            found: list[list[tuple[object, ...]]] = []
            for pool in pools:
                async with pool.map(part, pipeline, ordered=True) as outcomes:
                    found.append([described(outcome) async for outcome in outcomes])
            differences = [index for index, (one, other) in enumerate(zip(*found, strict=True)) if one != other]
            assert not differences, [(found[0][index], found[1][index]) for index in differences[:3]]
            made += sum(isinstance(one[0], bytes) for one in found[0])
    return made


async def test_files_give_the_same_bytes_and_errors_with_the_sandbox_and_without_it() -> None:
    sources = changed(pictures(), _CHANGES, seed=1)
    made = await compare(sources)
    assert _CHANGES // 10 < made < len(sources), "some files give a picture, and some an error"


PIPELINES: list[list[Operation]] = [
    [Resize(90), Text("Fonts of the system", size=20), Png()],
    [Resize(90), Text("Fonts", font="serif bold", gravity="south"), Webp(lossless=True)],
    [Resize(80), IccProfile("p3"), Jpeg()],
    [Resize(80), Tint("#a33"), Png()],
    [Resize(70, 50, fit="cover"), Sharpen(), Jpeg(progressive=True)],
    [Resize(60), Rotate(17), Flatten("#fff"), Tiff()],
    [Resize(60), Blur(2), Grayscale(), Webp()],
    [Resize(60), Clahe(8, 8), Median(3), Avif(effort=0)],
    [Resize(60), Modulate(hue=40), RoundCorners(9), Gif()],
    [Resize(50), Affine((1, 0.2, 0.1, 1)), Raw()],
    [Trim(), Resize(60), Extend(4), Png()],
    [BlurHash()],
    [ThumbHash()],
    [PerceptualHash()],
    [Stats()],
    [Lqip()],
]
PHOTOS = sorted(path for path in (Path(__file__).parents[3] / "docs" / "photos").iterdir() if path.suffix != ".md")


async def test_operations_on_photographs_give_the_same_bytes_with_the_sandbox_and_without_it() -> None:
    async with both_pools() as pools:
        for number, pipeline in enumerate(PIPELINES):
            source = PHOTOS[number % len(PHOTOS)].read_bytes()
            with_it, without_it = [await pool.run(source, pipeline) for pool in pools]
            assert (bytes(with_it), str(with_it.info)) == (bytes(without_it), str(without_it.info)), pipeline


if __name__ == "__main__":
    for seed in range(int(sys.argv[1]) // 500):
        files = changed(pictures(), 500, seed)
        print(f"{seed}: the same for {len(files)} files, {anyio.run(compare, files)} pictures")  # noqa: T201
