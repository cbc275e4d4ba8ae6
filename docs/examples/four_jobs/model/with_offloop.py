"""A model that is loaded once in each worker of offloop, before its first task."""

import asyncio

from offloop import Pool, function, resource


@resource
class Model:
    def __init__(self) -> None:
        self.weights = [0.5, 0.25]


@function
def score(values: list[float], model: Model) -> float:
    return sum(value * weight for value, weight in zip(values, model.weights, strict=True))


async def main() -> None:
    async with Pool() as pool:
        print(await pool.call(score, [2.0, 4.0], timeout=5))


if __name__ == "__main__":
    asyncio.run(main())
