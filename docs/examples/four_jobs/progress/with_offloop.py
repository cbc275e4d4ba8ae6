"""A call of offloop that reports its progress, and is stopped by a time limit."""

import asyncio

from offloop import Context, Pool, Progress, function


@function
def count(steps: int, context: Context) -> int:
    for step in range(steps):
        context.progress((step + 1) / steps)
    return steps


def show(progress: Progress) -> None:
    print(f"{progress.fraction:.0%}")


async def main() -> None:
    async with Pool() as pool:
        print(await pool.call(count, 3, timeout=20, on_progress=show))


if __name__ == "__main__":
    asyncio.run(main())
