"""The pools that `bench_mixed.py` compares. Each is a context manager that yields a function which runs one task."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.util import find_spec
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.to_process
from mixed_work import PIPELINES, Kind, carry_out

from offloop import Pool

__all__ = ["CONTENDERS", "WORKERS", "Work", "what_is_missing"]

WORKERS = 2

Work: TypeAlias = Callable[[Kind, str], Awaitable[object]]
Contender: TypeAlias = Callable[[Mapping[str, Any]], AbstractAsyncContextManager[Work]]


@asynccontextmanager
async def offloop(options: Mapping[str, Any]) -> AsyncGenerator[Work]:
    given = {name: options[name] for name in ("memory_limit", "nice") if options.get(name) is not None}
    async with Pool(WORKERS, plugins=["vips"], timeout=None, **given) as pool:

        async def work(kind: Kind, path: str) -> int:
            return len((await pool.run(Path(path), PIPELINES[kind])).data)

        yield work


@asynccontextmanager
async def inline(_options: Mapping[str, Any]) -> AsyncGenerator[Work]:
    async def work(kind: Kind, path: str) -> bytes:
        return carry_out(kind, path)

    yield work


@asynccontextmanager
async def executor(make: Callable[[], Executor], _options: Mapping[str, Any]) -> AsyncGenerator[Work]:
    loop = asyncio.get_running_loop()
    with make() as made:
        yield lambda kind, path: loop.run_in_executor(made, carry_out, kind, path)


@asynccontextmanager
async def to_process(_options: Mapping[str, Any]) -> AsyncGenerator[Work]:
    limiter = anyio.CapacityLimiter(WORKERS)
    yield lambda kind, path: anyio.to_process.run_sync(carry_out, kind, path, limiter=limiter)


@asynccontextmanager
async def pebble(_options: Mapping[str, Any]) -> AsyncGenerator[Work]:
    from pebble import ProcessPool

    def schedule(kind: Kind, path: str) -> Awaitable[object]:
        future: Future[bytes] = pool.schedule(carry_out, args=(kind, path))
        return asyncio.wrap_future(future)

    with ProcessPool(WORKERS, context=get_context("spawn")) as pool:
        yield schedule


@asynccontextmanager
async def piscina(options: Mapping[str, Any]) -> AsyncGenerator[Work]:
    """Node's pool, with sharp: a server of its own that gets tasks as lines of text. A line takes 0.1 ms."""
    script = Path(__file__).with_name("mixed_piscina.cjs")
    node = await asyncio.create_subprocess_exec(
        "node",
        str(script),
        options["node_packages"],
        str(WORKERS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert node.stdin is not None
    assert node.stdout is not None
    answers: dict[int, asyncio.Future[int]] = {}
    numbers = count()

    async def read(lines: asyncio.StreamReader) -> None:
        async for line in lines:
            number, nbytes = map(int, line.split())
            answers.pop(number).set_result(nbytes)

    def work(kind: Kind, path: str) -> Awaitable[object]:
        assert node.stdin is not None
        number = next(numbers)
        answer = answers[number] = asyncio.get_running_loop().create_future()
        node.stdin.write(f"{number} {kind} {path}\n".encode())
        return answer

    reading = asyncio.create_task(read(node.stdout))
    yield work
    node.stdin.close()
    await reading
    await node.wait()


def loky_executor() -> Executor:
    from loky import ProcessPoolExecutor as Loky

    return Loky(WORKERS)


CONTENDERS: dict[str, Contender] = {
    "offloop": offloop,
    "ProcessPoolExecutor": partial(executor, lambda: ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"))),
    "loky": partial(executor, loky_executor),
    "pebble": pebble,
    "anyio.to_process": to_process,
    "threads": partial(executor, lambda: ThreadPoolExecutor(WORKERS)),
    "piscina, sharp": piscina,
    "inline": inline,  # without a pool: the cost of one task
}


def what_is_missing(name: str, node_packages: str | None) -> str | None:
    """Returns the missing package or option of this contender; None if it can run."""
    if name in ("loky", "pebble"):
        return None if find_spec(name) else f"{name} is not installed"
    if name == "piscina, sharp":
        if shutil.which("node") is None:
            return "node is not installed"
        return None if node_packages else "no --node-packages given"
    return None
