"""A model that is loaded once in each process of pebble. Its load counts towards the first calls."""

import asyncio

from pebble import ProcessPool


class Model:
    def __init__(self) -> None:
        self.weights = [0.5, 0.25]


def load() -> None:
    global model
    model = Model()


def score(values: list[float]) -> float:
    return sum(value * weight for value, weight in zip(values, model.weights, strict=True))


async def main() -> None:
    with ProcessPool(initializer=load) as pool:
        print(await asyncio.wrap_future(pool.schedule(score, args=[[2.0, 4.0]], timeout=5)))


if __name__ == "__main__":
    asyncio.run(main())
