"""A call of pebble that reports its progress by a queue of a manager process, and is stopped by a time limit."""

import asyncio
from multiprocessing import Manager
from queue import Queue

from pebble import ProcessPool


def count(steps: int, progress: "Queue[float | None]") -> int:
    for step in range(steps):
        progress.put((step + 1) / steps)
    progress.put(None)
    return steps


def show(progress: "Queue[float | None]") -> None:
    while (fraction := progress.get()) is not None:
        print(f"{fraction:.0%}")


async def main() -> None:
    with Manager() as manager, ProcessPool() as pool:
        progress = manager.Queue()
        call = asyncio.wrap_future(pool.schedule(count, args=[3, progress], timeout=20))
        await asyncio.to_thread(show, progress)
        print(await call)


if __name__ == "__main__":
    asyncio.run(main())
