"""Measuring functions of the benchmarks. Contenders take turns in one run, so that noise of the machine affects all of them."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter

__all__ = ["Samples", "arguments", "parser_of", "percentile", "take_turns"]

Samples = dict[str, list[float]]  # contender -> seconds


def arguments(question: str | None) -> argparse.Namespace:
    """Parse the options: `--smoke` runs everything once as a test, `--rounds` is the number of turns of each contender."""
    return parser_of(question).parse_args()


def parser_of(question: str | None) -> argparse.ArgumentParser:
    """Returns a parser with these options, for a benchmark that adds others."""
    parser = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few repetitions, for CI: the numbers mean nothing")
    parser.add_argument("--rounds", type=int, default=20, help="turns of each contender (default: %(default)s)")
    return parser


async def take_turns(contenders: Mapping[str, Callable[[], Awaitable[object]]], rounds: int, repetitions: int) -> Samples:
    """Measure the calls of each contender in turns of `repetitions` calls. The first call of each turn is not counted."""
    samples: Samples = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            await call()
            for _ in range(repetitions):
                started = perf_counter()
                await call()
                samples[name].append(perf_counter() - started)
    return samples


def percentile(values: list[float], percent: int) -> float:
    """Returns the value that `percent` of the values do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]
