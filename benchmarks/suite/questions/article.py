"""The benchmark of the article on Node's worker threads: 24 tasks, from file to file."""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from suite.contenders import COMPILED, OFFLOOP, Contender, Opened, offloop
from suite.floor import FLOOR, by_hand
from suite.peers import Peers
from suite.questions.base import Figure, Goal, Question, pools
from suite.watching import NODE_CONTENDERS
from suite.work import EDITS, edit

__all__ = ["Article", "noise"]

_SHARED_DECODE = "offloop, run_many"
TINTS = ((255, 190, 160), (170, 255, 180), (170, 190, 255), (255, 240, 150))
_FULL, _SMALL = (4000, 3000), (400, 300)


class Article(Question):
    name = "article"
    title = "24 pictures: the benchmark of the article on worker threads"
    what = (
        "Four PNGs of 4000 x 3000 pixels, tinted noise, are each resized, blurred, made grey, sharpened, turned and tinted: 24 "
        "tasks from file to file on two workers. It shows whether a pool keeps all CPUs at work, and what that costs."
    )
    expected = "within 3 % of the floor; `run_many`, which decodes each source once, at most 0.82 of the best peer"
    figures = (
        Figure("seconds", "time, s", 2, is_plotted=True),
        Figure("speed_up", "times its own sequential run", 2),
        Figure("cpu_s", "CPU time, s", 2),
        Figure("peak_mib", "peak memory, MiB", 0),
        Figure("lag_p99_ms", "lag of the loop, p99, ms", 1),
    )
    rounds = 2
    floors = (FLOOR,)
    goals = (
        Goal(
            "time, times that of the floor",
            1.03,
            lambda found: found[OFFLOOP]["seconds"] / found[FLOOR]["seconds"],
            "The floor has no queue, no limit on memory and no supervision; the rest is the server's own CPU time.",
        ),
        Goal(
            "time of `run_many`, times that of the best peer",
            0.82,
            lambda found: (
                found[_SHARED_DECODE]["seconds"]
                / min(figures["seconds"] for name, figures in found.items() if not name.startswith(OFFLOOP) and name != FLOOR)
            ),
            "The decode is a smaller part of the work than was expected; encoding PNGs is the largest.",
        ),
    )

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        node = NODE_CONTENDERS if peers.node_packages is not None else ()
        return [_SHARED_DECODE, *pools(peers, FLOOR, *node, is_quick=is_quick, without=[COMPILED])]

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        width, height = _SMALL if is_quick else _FULL
        count = 1 if is_quick else len(TINTS)
        *sources, small = noise(folder, [*[(width, height)] * count, (64, 48)])
        return {
            "sources": sources,
            "small": small,
            "folder": str(folder),
            "edits": list(EDITS),
            "width": width,
            "height": height,
        }

    def check(self, turns: Mapping[str, Mapping[str, float]]) -> None:
        # the same calls of libvips write the same bytes
        written = {name: figures["written_bytes"] for name, figures in turns.items() if name not in NODE_CONTENDERS}
        if len(set(written.values())) > 1:
            raise ValueError(f"the contenders wrote different numbers of bytes: {written}")

    def opened(
        self, name: str, contenders: Mapping[str, Contender], job: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Opened]:
        if name == FLOOR:
            return by_hand(job["workers"])
        if name == _SHARED_DECODE:
            return _sharing(job["workers"])
        return super().opened(name, contenders, job)

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        sources = [job["small"]] * (2 * job["workers"])
        await _all_edits(opened, sources, Path(job["folder"]), {"resize": []})

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        folder = Path(job["folder"])
        started = perf_counter()
        targets = await _all_edits(opened, job["sources"], folder, EDITS)
        seconds = perf_counter() - started
        written = 0
        for (_, name), target in targets.items():
            written += _checked(target, name, job["width"], job["height"])
            target.unlink()
        return {"seconds": seconds, "written_bytes": written}


def noise(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Returns paths of PNGs of tinted noise. Each is made once, and kept in the folder for the next question."""
    wanted = [
        (str(folder / f"noise-{number}-{width}x{height}.png"), (width, height), TINTS[number % len(TINTS)])
        for number, (width, height) in enumerate(sizes)
    ]
    # the process that measures must not load libvips
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        list(executor.map(_make, *zip(*wanted, strict=True)))
    return [path for path, _, _ in wanted]


@asynccontextmanager
async def _sharing(workers: int) -> AsyncGenerator[Opened]:
    async with offloop(workers) as opened:
        yield opened._replace(has_timeout=False)


async def _all_edits(
    opened: Opened, sources: list[str], folder: Path, edits: Mapping[str, object]
) -> dict[tuple[str, str], Path]:
    """Run every edit on every source at once. Returns the files by source and edit."""
    targets = {(f"{number}", name): folder / f"made-{number}-{name}.png" for number in range(len(sources)) for name in edits}

    async def by_run(source: str, name: str, target: Path) -> None:
        assert opened.pool is not None
        await opened.pool.run(Path(source), EDITS[name], to=target)

    async def by_run_many(number: int, source: str) -> None:
        assert opened.pool is not None
        outcomes = await opened.pool.run_many(
            Path(source), {name: EDITS[name] for name in edits}, to={name: targets[f"{number}", name] for name in edits}
        )
        for outcome in outcomes.values():
            outcome.unwrap()

    async with anyio.create_task_group() as group:
        if opened.pool is not None and not opened.has_timeout:
            for number, source in enumerate(sources):
                group.start_soon(by_run_many, number, source)
        else:
            for (number, name), target in targets.items():
                source = sources[int(number)]
                if opened.pool is not None:
                    group.start_soon(by_run, source, name, target)
                else:
                    group.start_soon(_call, opened, name, source, str(target))
    return targets


async def _call(opened: Opened, name: str, source: str, target: str) -> None:
    assert await opened.call(edit, name, source, target) > 0


def _checked(target: Path, name: str, width: int, height: int) -> int:
    """Returns the size of a file that is a whole PNG with the dimensions that the edit gives."""
    expected = {
        "resize": (width // 2 if width > 2000 else 2000, height // 2 if height > 1500 else 1500),
        "rotate": (height, width),
    }
    with target.open("rb") as file:
        start = file.read(24)
        nbytes = file.seek(0, 2)
        file.seek(nbytes - 8)
        end = file.read(4)
    assert start[:8] == b"\x89PNG\r\n\x1a\n", target
    assert end == b"IEND", target
    found = struct.unpack(">II", start[16:24])
    assert found == expected.get(name, (width, height)), f"{target}: {found}"
    return nbytes


def _make(path: str, size: tuple[int, int], tint: tuple[int, int, int]) -> None:
    """Write a PNG of tinted noise, once; it is kept for the next run."""
    import numpy as np
    import pyvips

    if Path(path).exists():
        return
    noise = np.random.default_rng(sum(tint)).integers(0, 256, (size[1], size[0], 1), np.uint16)
    picture = (noise * np.array(tint, np.uint16) // 255).astype(np.uint8)
    image: Any = pyvips.Image.new_from_array(picture)
    image.copy(interpretation="srgb").pngsave(path)
