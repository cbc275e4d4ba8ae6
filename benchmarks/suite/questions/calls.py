"""The cost of a small call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
from measuring import percentile

from suite.contenders import COMPILED, IN_SERVER, OFFLOOP, Contender, Opened
from suite.floor import FLOOR, by_hand
from suite.peers import Peers
from suite.questions.base import Figure, Goal, Question, pools
from suite.work import same, same_of_pool

__all__ = ["Calls"]


class Calls(Question):
    name = "calls"
    title = "Small calls: a function that returns its argument"
    what = (
        "An ordinary function returns the number that it was given: one call at a time, and 64 in flight on two workers. "
        "It is what a pool adds to every task, and it decides how small a task may be."
    )
    expected = (
        "one at a time not slower than `anyio.to_process`; with 64 in flight 1.5 times its rate, compiled more than piscina"
    )
    figures = (
        Figure("p50_us", "one at a time, p50, us", 0, is_plotted=True),
        Figure("p99_us", "p99, us", 0),
        Figure("calls_per_s", "calls a second, 64 in flight", 0, is_plotted=True, is_rate=True),
        Figure("server_us", "CPU of the server for a call, us", 0),
        Figure("lag_p99_ms", "lag of the loop, p99, ms", 1),
    )
    rounds = 5
    floors = (FLOOR,)
    goals = (
        Goal(
            "one at a time, times `anyio.to_process`",
            1.0,
            lambda found: found[OFFLOOP]["p50_us"] / found["anyio.to_process"]["p50_us"],
            "Each call is decided about by the core, and is recorded; most of that time is Python in the server.",
        ),
        Goal(
            "one at a time, compiled, times the supervisor by hand",
            1.5,
            lambda found: found[COMPILED]["p50_us"] / found[FLOOR]["p50_us"],
            "The floor pickles a call into one write; offloop checks, admits, orders, times and records it.",
        ),
        Goal(
            "calls a second with 64 in flight, times `anyio.to_process`",
            1.5,
            lambda found: found[OFFLOOP]["calls_per_s"] / found["anyio.to_process"]["calls_per_s"],
            "The server's CPU time for a call is the limit: its loop is busy all the time.",
            is_least=True,
        ),
        Goal(
            "calls a second with 64 in flight, compiled, times piscina",
            1.0,
            lambda found: found[COMPILED]["calls_per_s"] / found["piscina"]["calls_per_s"],
            "piscina's threads share one process, and Node passes a number between them without a system call.",
            is_least=True,
        ),
        Goal(
            "calls a second with 64 in flight, compiled",
            40_000,
            lambda found: found[COMPILED]["calls_per_s"],
            "The server's CPU time for a call is the limit: its loop is busy all the time.",
            is_least=True,
            digits=0,
        ),
    )

    has_compiled = True

    def contenders(self, peers: Peers, *, is_quick: bool) -> list[str]:
        node = ("piscina",) if peers.node_packages is not None else ()
        return pools(peers, FLOOR, *node, is_quick=is_quick, without=[IN_SERVER])

    def parameters(self, folder: Path, *, is_quick: bool) -> dict[str, Any]:
        return {"single": 50 if is_quick else 2000, "many": 200 if is_quick else 10_000, "in_flight": 64}

    def opened(
        self, name: str, contenders: Mapping[str, Contender], job: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[Opened]:
        return by_hand(job["workers"]) if name == FLOOR else super().opened(name, contenders, job)

    async def warm_up(self, opened: Opened, job: Mapping[str, Any]) -> None:
        await _many(opened, _function(opened), job["in_flight"], job["in_flight"])

    async def turn(self, opened: Opened, job: Mapping[str, Any]) -> dict[str, float]:
        function = _function(opened)
        taken: list[float] = []
        for number in range(job["single"]):
            started = perf_counter()
            answer = await opened.call(function, number)
            taken.append(perf_counter() - started)
            assert answer == number
        before, started = _server_cpu_s(), perf_counter()
        await _many(opened, function, job["many"], job["in_flight"])
        seconds = perf_counter() - started
        return {
            "p50_us": percentile(taken, 50) * 1e6,
            "p99_us": percentile(taken, 99) * 1e6,
            "calls_per_s": job["many"] / seconds,
            "server_us": (_server_cpu_s() - before) / job["many"] * 1e6,
        }


def _server_cpu_s() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _function(opened: Opened) -> Callable[[int], int]:
    return same if opened.pool is None else same_of_pool


async def _many(opened: Opened, function: Callable[[int], int], calls: int, in_flight: int) -> None:
    left = iter(range(calls))

    async def lane() -> None:
        for number in left:
            assert await opened.call(function, number) == number

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(lane)
