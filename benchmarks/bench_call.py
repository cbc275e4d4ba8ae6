"""What does a call of an ordinary function in a worker cost, beside the pools that Python programs use today?

`Pool.call`, `ProcessPoolExecutor`, pebble, loky and `anyio.to_process` take turns in one run. A contender that is not installed
is left out.

- one at a time: a function that returns its argument, p50 in microseconds;
- 64 in flight: calls a second, with two workers;
- a numpy array of 100 MB there and back, after trips that bring the pages in: milliseconds, and CPU time of all
  processes together, which says something on a loaded machine, too;
- 50 calls of which the first two never return, with a limit of one second and two workers: the seconds until the first error,
  and how many of the 48 others returned within six seconds.

    python benchmarks/bench_call.py

Expected: one at a time not slower than `anyio.to_process`; the array at least 10 times faster than every pool that pickles it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

import anyio
import anyio.to_process
import numpy as np
from call_work import echo_array, echo_array_of_pool, hang, same, same_of_pool
from measuring import arguments, percentile, take_turns
from tree_memory import TreeMemory

from offloop import Pool

WORKERS = 2
HANGING = 2  # calls that hang: as many as there are workers
IN_FLIGHT = 64
CALLS = 50
LIMIT_S, PATIENCE_S = 1.0, 6.0

Call = Callable[..., Awaitable[Any]]
"""Calls a function in a worker: function, argument."""


async def contenders(stack: AsyncExitStack) -> dict[str, Call]:
    """Starts all contenders with two workers each."""
    pool = await stack.enter_async_context(Pool(WORKERS, plugins=[], functions=["call_work"], memory_limit="2GiB", nice=0))
    found: dict[str, Call] = {"Pool.call": pool.call}
    executor = ProcessPoolExecutor(WORKERS)
    stack.callback(partial(end_executor, executor))
    found["ProcessPoolExecutor"] = partial(in_executor, executor)
    if find_spec("loky") is not None:
        loky: Any = import_module("loky")
        reusable = loky.get_reusable_executor(max_workers=WORKERS, timeout=60)
        stack.callback(partial(reusable.shutdown, wait=True, kill_workers=True))
        found["loky"] = partial(in_executor, reusable)
    if find_spec("pebble") is not None:
        pebble: Any = import_module("pebble").ProcessPool(max_workers=WORKERS)
        stack.callback(pebble.join)
        stack.callback(pebble.stop)
        found["pebble"] = partial(in_pebble, pebble)
    limiter = anyio.CapacityLimiter(WORKERS)
    found["anyio.to_process"] = partial(in_anyio, limiter)
    return found


def end_executor(executor: ProcessPoolExecutor) -> None:
    processes: dict[int, Any] = getattr(executor, "_processes", None) or {}
    for process in list(processes.values()):
        process.kill()
    executor.shutdown(wait=True, cancel_futures=True)


async def in_executor(executor: Executor, function: Callable[..., Any], argument: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(executor, function, argument)


async def in_pebble(pool: Any, function: Callable[..., Any], argument: Any, timeout: float | None = None) -> Any:
    return await asyncio.wrap_future(pool.schedule(function, args=[argument], timeout=timeout))


async def in_anyio(limiter: anyio.CapacityLimiter, function: Callable[..., Any], argument: Any) -> Any:
    return await anyio.to_process.run_sync(function, argument, cancellable=True, limiter=limiter)


def function_for(name: str, plain: Callable[..., Any], of_pool: Callable[..., Any]) -> Callable[..., Any]:
    return of_pool if name == "Pool.call" else plain


async def one_at_a_time(found: dict[str, Call], rounds: int, repetitions: int) -> dict[str, float]:
    calls = {name: partial(call, function_for(name, same, same_of_pool), 7) for name, call in found.items()}
    samples = await take_turns(calls, rounds, repetitions)
    return {name: percentile(values, 50) * 1e6 for name, values in samples.items()}


async def many_in_flight(call: Call, function: Callable[..., Any], calls: int) -> float:
    """Returns calls a second."""
    left = iter(range(calls))

    async def work() -> None:
        for number in left:
            await call(function, number)

    started = perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(IN_FLIGHT):
            group.start_soon(work)
    return calls / (perf_counter() - started)


async def there_and_back(call: Call, function: Callable[..., Any], array: np.ndarray, tree: TreeMemory) -> tuple[float, float]:
    """Returns milliseconds, and those of CPU time."""
    cpu_before, started = tree.cpu_s(), perf_counter()
    back = await call(function, array)
    elapsed = perf_counter() - started
    assert back[-1] == array[-1]
    return elapsed * 1e3, (tree.cpu_s() - cpu_before) * 1e3


async def one_hangs(name: str, call: Call) -> tuple[float | None, int]:
    """Returns the seconds until the error of the call that hangs, and how many of the others returned."""
    returned: list[int] = []
    failed_after: list[float] = []
    started = perf_counter()

    async def work(number: int) -> None:
        try:
            if name in ("Pool.call", "pebble"):
                await call(hang, number, timeout=LIMIT_S)
            else:
                with anyio.fail_after(LIMIT_S if number < HANGING else None):
                    await call(hang, number)
        except Exception:
            if number == 0:
                failed_after.append(perf_counter() - started)
        else:
            returned.append(number)

    with anyio.move_on_after(PATIENCE_S):
        async with anyio.create_task_group() as group:
            for number in range(CALLS):
                group.start_soon(work, number)
    return (failed_after[0] if failed_after else None), len(returned)


async def main() -> None:
    options = arguments(__doc__)
    rounds, repetitions = (1, 5) if options.smoke else (options.rounds, 50)
    calls = 100 if options.smoke else 2000
    array = np.ones(1_000_000 if options.smoke else 100_000_000, np.uint8)
    async with AsyncExitStack() as stack:
        found = await contenders(stack)
        single = await one_at_a_time(found, rounds, repetitions)
        rates: dict[str, list[float]] = {name: [] for name in found}
        trips: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
        tree = TreeMemory(os.getpid())
        for turn in range(1 if options.smoke else 3):
            for name, call in found.items():
                rates[name].append(await many_in_flight(call, function_for(name, same, same_of_pool), calls))
                echo = function_for(name, echo_array, echo_array_of_pool)
                for _ in range(0 if turn or options.smoke else 2 * WORKERS):
                    await there_and_back(call, echo, array, tree)
                trips[name].append(await there_and_back(call, echo, array, tree))
        print(f"{'':>20}{'p50, us':>10}{'calls/s':>10}{'array, ms':>11}{'CPU, ms':>9}{'error, s':>10}{'of 48':>7}")
        for name, call in found.items():
            error, others = await one_hangs(name, call)
            shown = "never" if error is None else f"{error:.2f}"
            rate, (trip, cpu) = statistics.median(rates[name]), map(statistics.median, zip(*trips[name], strict=True))
            print(f"{name:>20}{single[name]:10.0f}{rate:10.0f}{trip:11.1f}{cpu:9.0f}{shown:>10}{others:7}")


if __name__ == "__main__":
    anyio.run(main)
