"""The pools of Python behind one interface: a context manager that yields a function which calls a function in a worker.

Each has the given number of workers, each worker one thread of libvips, and the niceness of the server. A pool that is "forked"
or "spawned" by default stays so, but with libvips in the server nothing is forked.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple, TypeAlias

import anyio
import anyio.to_process

from offloop import Pool

__all__ = ["COMPILED", "CONTENDERS", "IN_SERVER", "OFFLOOP", "PACKAGES", "Opened"]

OFFLOOP = "offloop"
COMPILED = "offloop, compiled"
IN_SERVER = "one after another"

Call: TypeAlias = Callable[..., Awaitable[Any]]


class Opened(NamedTuple):
    call: Call  # function, arguments; `timeout=` in seconds where `has_timeout`
    pool: Pool | None = None  # offloop's
    has_timeout: bool = False  # whether `call(timeout=)` ends the work


Contender: TypeAlias = Callable[[int], AbstractAsyncContextManager[Opened]]


@asynccontextmanager
async def offloop(workers: int) -> AsyncGenerator[Opened]:
    async with Pool(workers, plugins=["vips"], functions=["suite.work"], memory_limit="4GiB", nice=0, timeout=None) as pool:
        yield Opened(pool.call, pool, has_timeout=True)


@asynccontextmanager
async def in_server(_workers: int) -> AsyncGenerator[Opened]:
    async def call(function: Callable[..., Any], *values: Any) -> Any:
        return function(*values)

    yield Opened(call)


@asynccontextmanager
async def executor(make: Callable[[int], Executor], workers: int) -> AsyncGenerator[Opened]:
    loop = asyncio.get_running_loop()
    made = make(workers)
    try:
        yield Opened(lambda function, *values: loop.run_in_executor(made, function, *values))
    finally:
        for process in list((getattr(made, "_processes", None) or {}).values()):
            process.kill()  # one may hang, which shutdown would wait for
        made.shutdown(wait=True, cancel_futures=True)


def loky_executor(workers: int) -> Executor:
    from loky import ProcessPoolExecutor as Loky

    return Loky(workers)


@asynccontextmanager
async def pebble(workers: int) -> AsyncGenerator[Opened]:
    from pebble import ProcessPool

    async def call(function: Callable[..., Any], *values: Any, timeout: float | None = None) -> Any:
        future: Any = pool.schedule(function, args=values, timeout=timeout)
        return await asyncio.wrap_future(future)

    pool: Any = ProcessPool(workers, context=get_context("spawn"))
    try:
        yield Opened(call, has_timeout=True)
    finally:
        pool.stop()
        pool.join()


@asynccontextmanager
async def to_process(workers: int) -> AsyncGenerator[Opened]:
    limiter = anyio.CapacityLimiter(workers)

    async def call(function: Callable[..., Any], *values: Any, timeout: float | None = None) -> Any:
        with anyio.fail_after(timeout):
            return await anyio.to_process.run_sync(function, *values, limiter=limiter, cancellable=timeout is not None)

    yield Opened(call, has_timeout=True)


@asynccontextmanager
async def aiomultiprocess(workers: int) -> AsyncGenerator[Opened]:
    import aiomultiprocess as peer

    peer.set_start_method("spawn")
    async with peer.Pool(workers) as pool:
        yield Opened(lambda function, *values: pool.apply(_as_coroutine, (function, *values)))


async def _as_coroutine(function: Callable[..., Any], *values: Any) -> Any:
    """Its workers run coroutines only."""
    return function(*values)


@asynccontextmanager
async def dask(workers: int) -> AsyncGenerator[Opened]:
    from distributed import Client, LocalCluster

    # the options of a cluster of processes on this machine
    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, asynchronous=True, silence_logs=50
    )
    async with cluster, Client(cluster, asynchronous=True) as client:

        async def call(function: Callable[..., Any], *values: Any) -> Any:
            return await client.submit(function, *values, pure=False)

        yield Opened(call)


@asynccontextmanager
async def ray(workers: int) -> AsyncGenerator[Opened]:
    import ray as peer

    os.environ |= {"RAY_DEDUP_LOGS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    peer.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level=40)
    remote = peer.remote(_call)

    async def call(function: Callable[..., Any], *values: Any) -> Any:
        return await remote.remote(function, *values)

    try:
        yield Opened(call)
    finally:
        peer.shutdown()


def _call(function: Callable[..., Any], *values: Any) -> Any:
    return function(*values)


CONTENDERS: Mapping[str, Contender] = {
    OFFLOOP: offloop,
    COMPILED: offloop,
    IN_SERVER: in_server,
    "threads": partial(executor, ThreadPoolExecutor),
    "ProcessPoolExecutor": partial(executor, lambda workers: ProcessPoolExecutor(workers, get_context("spawn"))),
    "loky": partial(executor, loky_executor),
    "pebble": pebble,
    "anyio.to_process": to_process,
    "aiomultiprocess": aiomultiprocess,
    "dask": dask,
    "ray": ray,
}

PACKAGES = {"loky": "loky", "pebble": "pebble", "aiomultiprocess": "aiomultiprocess", "dask": "distributed", "ray": "ray"}
"""The package of each contender that needs one beside offloop's own."""
