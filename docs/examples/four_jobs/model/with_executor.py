"""A model that is loaded once in each process of ProcessPoolExecutor. Its load counts towards the first calls."""

import asyncio
from concurrent.futures import ProcessPoolExecutor


class Model:
    def __init__(self) -> None:
        self.weights = [0.5, 0.25]


def load() -> None:
    global model
    model = Model()


def score(values: list[float]) -> float:
    return sum(value * weight for value, weight in zip(values, model.weights, strict=True))


async def main() -> None:
    with ProcessPoolExecutor(initializer=load) as executor:
        loop = asyncio.get_running_loop()
        print(await asyncio.wait_for(loop.run_in_executor(executor, score, [2.0, 4.0]), 5))


if __name__ == "__main__":
    asyncio.run(main())
