"""How much faster are several renditions of one picture by `run_many` than by separate calls, and than sharp?

A photograph of 12 megapixels as JPEG becomes six widths, and a picture of 4000 x 3000 as PNG gets the six operations of the
Node article (resize, blur, grayscale, sharpen, rotate, tint). In turns, in the same run, with one worker or thread each:

- `run_many`: one task, one decode where that is cheaper;
- `run`: six calls in a task group, each with its own decode;
- sharp, `clone()`: six pipelines of clones of one sharp object;
- sharp: six sharp objects.

    npm install --prefix FOLDER sharp
    python benchmarks/bench_renditions.py --node-packages FOLDER

Expected: `run_many` is at least 1.25 times as fast as the best other one where decoding counts.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Self

import anyio
import numpy as np
from measuring import Samples, parser_of

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


class Sharp:
    """A node process that runs pipelines of sharp, in one thread."""

    def __init__(self, packages: str) -> None:
        self._packages = packages

    async def __aenter__(self) -> Self:
        script = str(Path(__file__).with_name("renditions_sharp.cjs"))
        self._process = await anyio.open_process(
            ["node", script, self._packages], stderr=None, env={**os.environ, "UV_THREADPOOL_SIZE": "1"}
        )
        assert self._process.stdout is not None
        self._answers = self._process.stdout
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._process.terminate()
        await self._process.wait()
        await self._process.aclose()

    async def run(self, way: str, pipelines: str, path: Path) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send(f"{way} {pipelines} {path}\n".encode())
        answer = await self._answers.receive()
        assert answer == b"done\n", answer


def what_is_missing(node_packages: str | None) -> str | None:
    """Returns the reason why sharp cannot be measured; None if it can."""
    if node_packages is None:
        return "no --node-packages"
    if shutil.which("node") is None:
        return "node is not installed"
    return None if (Path(node_packages) / "node_modules" / "sharp").is_dir() else f"no sharp in {node_packages}/node_modules"


async def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--node-packages", metavar="FOLDER", help="where `npm install sharp` was done")
    options = parser.parse_args()
    size = (400, 300) if options.smoke else (4000, 3000)
    missing = what_is_missing(options.node_packages)
    if missing is not None:
        print(f"sharp is left out: {missing}")
    async with AsyncExitStack() as opened:
        folder = Path(opened.enter_context(TemporaryDirectory()))
        pool = await opened.enter_async_context(Pool(1, plugins=["vips"], timeout=120, nice=0))
        sharp = await opened.enter_async_context(Sharp(options.node_packages)) if missing is None else None
        picture = noisy_picture(*size)
        for name, title, encoder, pipelines in (
            ("widths", "six widths of a JPEG", Jpeg(quality=90), WIDTHS),
            ("article", "six operations on a PNG", Png(), ARTICLE),
        ):
            source = bytes(await pool.run(picture, [encoder]))
            path = folder / name
            path.write_bytes(source)
            contenders: dict[str, Callable[[], Awaitable[object]]] = {
                "run_many": partial(together, pool, source, pipelines),
                "run": partial(separately, pool, source, pipelines),
            }
            if sharp is not None:
                contenders["sharp, clone()"] = partial(sharp.run, "clone", name, path)
                contenders["sharp"] = partial(sharp.run, "separate", name, path)
            print(f"{title}, {len(source) / 1e6:.1f} MB:")
            report(*await measure(contenders, 1 if options.smoke else options.rounds))


async def measure(contenders: Mapping[str, Callable[[], Awaitable[object]]], rounds: int) -> tuple[Samples, Samples]:
    """Measure each contender in turns, after one call of each that is not counted. Returns seconds, and CPU seconds."""
    for call in contenders.values():
        await call()
    seconds: Samples = {name: [] for name in contenders}
    cpu: Samples = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            started, cpu_before = perf_counter(), cpu_s()
            await call()
            seconds[name].append(perf_counter() - started)
            cpu[name].append(cpu_s() - cpu_before)
    return seconds, cpu


def cpu_s() -> float:
    """Returns the CPU time of this process and its descendants, in seconds: that of all contenders, of which one works."""
    total, pids = 0, [os.getpid()]
    while pids:
        folder = Path("/proc", str(pids.pop()))
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])  # in user mode and in the kernel
        pids += [int(pid) for children in folder.glob("task/*/children") for pid in children.read_text().split()]
    return total / os.sysconf("SC_CLK_TCK")


def report(seconds: Samples, cpu: Samples) -> None:
    for name in seconds:
        wall, spread = statistics.median(seconds[name]), f"{min(seconds[name]) * 1000:.0f} to {max(seconds[name]) * 1000:.0f}"
        print(f"  {name:15} {wall * 1000:8.1f} ms ({spread}), CPU {statistics.median(cpu[name]) * 1000:.0f} ms")
    for title, samples in (("time", seconds), ("CPU time", cpu)):
        medians = {name: statistics.median(each) for name, each in samples.items()}
        ours = medians.pop("run_many")
        best = min(medians, key=medians.__getitem__)
        print(f"  {title}: run_many is {medians[best] / max(ours, 1e-9):.2f} times as fast as {best}")


if __name__ == "__main__":
    asyncio.run(main())
