"""The server of `bench_mixed.py`: one contender and one scenario, in a process of its own, which is measured from outside.

Its protocol is lines of JSON. It reports its start, reads its job, enters its pool, reports that the pool is warm, and at the
end reports the outcomes of the tasks.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Any, TypeAlias

import uvloop
from mixed_contenders import CONTENDERS, Work
from mixed_work import Kind

__all__ = ["Arrival", "Outcome"]

Arrival: TypeAlias = tuple[float, Kind, str]  # seconds from the start, kind, path
Outcome: TypeAlias = dict[str, Any]  # kind, at_s (of arrival), seconds (until its end), error

_WARM_UP = 16  # number of small pictures before the measurement, so that every worker has had some


async def carry_out(work: Work, arrivals: Iterable[Arrival]) -> list[Outcome]:
    """Run all tasks in the given order, each from its time of arrival. Returns an outcome for each."""
    started = perf_counter()

    async def one(at_s: float, kind: Kind, path: str) -> Outcome:
        if (wait := started + at_s - perf_counter()) > 0:
            await asyncio.sleep(wait)
        error = None
        try:
            await work(kind, path)
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        # measured from the planned time of arrival, because the lag of the loop counts
        return {"kind": kind, "at_s": at_s, "seconds": perf_counter() - started - at_s, "error": error}

    return await asyncio.gather(*(one(*arrival) for arrival in arrivals))


async def drive(given: Mapping[str, Any]) -> None:
    arrivals = given["arrivals"]
    floor: list[Outcome] = []
    async with CONTENDERS[given["contender"]](given) as work:
        await carry_out(work, [(0.0, "small", given["small"])] * _WARM_UP)
        if given["floor"]:
            floor = await carry_out(work, [arrival for arrival in arrivals if arrival[1] == "small"])
        tell({"at": "load"})
        tell({"tasks": await carry_out(work, arrivals), "floor": floor})


def tell(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    tell({"at": "entry"})
    uvloop.run(drive(json.loads(sys.stdin.readline())))
