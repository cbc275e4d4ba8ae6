"""How much faster are several renditions of one picture by `run_many` than by separate calls?

A photograph of 12 megapixels as JPEG becomes six widths, and a picture of 4000 x 3000 as PNG gets the six operations of the
Node article (resize, blur, grayscale, sharpen, rotate, tint). In turns, in the same run, on one worker:

- `run_many`: one task, one decode where that is cheaper;
- `run`: six calls in a task group, each with its own decode.

    python benchmarks/bench_renditions.py

Expected: `run_many` takes at most four fifths of the time where decoding counts.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter

import anyio
import numpy as np
from measuring import arguments

from offloop import Operation, Pool
from offloop_vips import Blur, Grayscale, Jpeg, Png, Resize, Rotate, Sharpen, Tint, Webp

Pipelines = Mapping[str, Sequence[Operation]]

WIDTHS: Pipelines = {str(width): [Resize(width), Webp()] for width in (160, 320, 640, 960, 1280, 1920)}
ARTICLE: Pipelines = {
    "resize": [Resize(800), Jpeg()],
    "blur": [Resize(800), Blur(5), Jpeg()],
    "grayscale": [Resize(800), Grayscale(), Jpeg()],
    "sharpen": [Resize(800), Sharpen(), Jpeg()],
    "rotate": [Resize(800), Rotate(90), Jpeg()],
    "tint": [Resize(800), Tint("#ff8800"), Jpeg()],
}


def noisy_picture(width: int, height: int) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Smooth colours with noise, which are as hard to decode as a photograph."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 6, (height, width, 1)).astype(np.float32)
    waves = np.stack([np.sin(columns / 97), np.sin(rows / 71), np.sin((rows + columns) / 131)], axis=-1)
    return np.clip(128 + 90 * waves + noise, 0, 255).astype(np.uint8)


async def together(pool: Pool, source: bytes, pipelines: Pipelines) -> None:
    for outcome in (await pool.run_many(source, pipelines)).values():
        outcome.unwrap()


async def separately(pool: Pool, source: bytes, pipelines: Pipelines) -> None:
    async with anyio.create_task_group() as tasks:
        for pipeline in pipelines.values():
            tasks.start_soon(pool.run, source, pipeline)


async def main() -> None:
    options = arguments(__doc__)
    size = (400, 300) if options.smoke else (4000, 3000)
    async with Pool(1, plugins=["vips"], timeout=120) as pool:
        picture = noisy_picture(*size)
        sources = {
            "six widths of a JPEG": (bytes(await pool.run(picture, [Jpeg(quality=90)])), WIDTHS),
            "six operations on a PNG": (bytes(await pool.run(picture, [Png()])), ARTICLE),
        }
        for title, (source, pipelines) in sources.items():
            seconds: dict[str, list[float]] = {"run_many": [], "run": []}
            ways: dict[str, Callable[[Pool, bytes, Pipelines], Awaitable[None]]] = {"run_many": together, "run": separately}
            for _ in range(1 if options.smoke else options.rounds):
                for name, way in ways.items():
                    started = perf_counter()
                    await way(pool, source, pipelines)
                    seconds[name].append(perf_counter() - started)
            medians = {name: statistics.median(times) for name, times in seconds.items()}
            texts = [f"{name} {medians[name] * 1000:7.1f} ms (least {min(seconds[name]) * 1000:.1f})" for name in ways]
            ratio = medians["run"] / medians["run_many"]
            print(f"{title}, {len(source) / 1e6:.1f} MB: {', '.join(texts)}: {ratio:.2f} times as fast")


if __name__ == "__main__":
    asyncio.run(main())
