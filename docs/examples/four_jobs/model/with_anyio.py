"""A model that is loaded by the first call in each process of anyio.to_process, within the time of that call."""

from functools import cache

import anyio
import anyio.to_process


class Model:
    def __init__(self) -> None:
        self.weights = [0.5, 0.25]


@cache
def model() -> Model:
    return Model()


def score(values: list[float]) -> float:
    return sum(value * weight for value, weight in zip(values, model().weights, strict=True))


async def main() -> None:
    with anyio.fail_after(5):
        print(await anyio.to_process.run_sync(score, [2.0, 4.0], cancellable=True))


if __name__ == "__main__":
    anyio.run(main)
