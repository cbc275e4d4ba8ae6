"""A short function for the tests of tasks that a worker has behind the one that it runs."""

from __future__ import annotations

import os
import time
from itertools import repeat

from offloop import function

__all__ = ["echo_bytes", "short"]


@function
def short(order: str) -> str:
    """Returns its argument, unless that is an order to die, to sleep for ever, or to spin in C with the GIL for ever."""
    match order:
        case "die":
            os._exit(3)
        case "sleep":
            time.sleep(3600)
        case "spin":
            all(repeat(object()))
        case _:
            pass
    return order


@function
def echo_bytes(data: bytes) -> bytes:
    """Returns its argument, which travels in shared memory if it is long, unless it begins with an order to die."""
    if data.startswith(b"die"):
        os._exit(3)
    return data[::-1]
