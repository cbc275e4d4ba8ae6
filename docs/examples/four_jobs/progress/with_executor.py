"""A call of ProcessPoolExecutor that reports its progress by a queue of a manager process."""

import asyncio
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Manager
from queue import Queue


def count(steps: int, progress: "Queue[float | None]") -> int:
    for step in range(steps):
        progress.put((step + 1) / steps)
    progress.put(None)
    return steps


def show(progress: "Queue[float | None]") -> None:
    while (fraction := progress.get()) is not None:
        print(f"{fraction:.0%}")


async def main() -> None:
    with Manager() as manager, ProcessPoolExecutor() as executor:
        progress = manager.Queue()
        loop = asyncio.get_running_loop()
        call = loop.run_in_executor(executor, count, 3, progress)
        await asyncio.wait_for(asyncio.to_thread(show, progress), 20)
        print(await call)


if __name__ == "__main__":
    asyncio.run(main())
