"""Functions for the tests of `ClusterPool.call`, and a pipeline for those of the command. Nodes import this module."""

from __future__ import annotations

import numpy as np

from offloop import function
from offloop.testing.faults import Echo, Wait


@function
def add(left: int, right: int) -> int:
    return left + right


@function
def double(values: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return values * 2


@function
def lengths(first: bytes, second: bytes) -> list[int]:
    return [len(first), len(second)]


@function
def fail(reason: str) -> None:
    raise LookupError(reason)


SLOWLY = [Wait(0.1), Echo()]
