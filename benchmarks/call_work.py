"""The functions of `bench_call.py`, at the top level of a module, where the workers of every contender find them."""

from __future__ import annotations

import time

import numpy as np

from offloop import function

__all__ = ["echo_array", "echo_array_of_pool", "echo_bytes_of_pool", "hang", "same", "same_of_pool"]


def same(value: int) -> int:
    """Returns its argument."""
    return value


def echo_array(array: np.ndarray) -> np.ndarray:
    """Returns its argument."""
    return array


def hang(number: int) -> int:
    """Never returns if the number is less than 2."""
    while number < 2:
        time.sleep(1)
    return number


@function
def same_of_pool(value: int) -> int:
    """Returns its argument."""
    return value


@function
def echo_array_of_pool(array: np.ndarray) -> np.ndarray:
    """Returns its argument."""
    return array


@function
def echo_bytes_of_pool(data: bytes) -> bytes:
    """Returns its argument."""
    return data
