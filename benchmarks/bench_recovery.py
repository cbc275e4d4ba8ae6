"""How long after a worker's death is the next task done, and how does the death affect other tasks?

1. A pool of one worker, idle or busy, gets SIGKILL from outside, and a no-op is submitted at once. Measured is the time from
   the kill to its result. If the pool reports that it is broken, it is rebuilt as its documentation says, the no-op is
   submitted again, and all of that counts. The floors, in the same turns: a bare interpreter from start to exit; and a bare
   worker process of offloop, with the same imports and messages but no supervisor, from its start to `Ready`, and to the answer
   of its first no-op. The pool's circuit breaker is effectively off, because a kill every second would open it, and the
   question is the cost of one death.
2. Fifty tasks of 20 ms on two workers. One worker is killed when ten are done. Measured is the number of the 49 others that
   fail, and the time until all fifty have an outcome, compared with a run without a kill.

    python benchmarks/bench_recovery.py

Expected of offloop: with a spare under 5 ms; without one under 1.3 times the bare worker's start-up; 0 of 49 others
failing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import statistics
import subprocess
import sys
from collections import defaultdict
from time import perf_counter

import anyio
from measuring import Samples, arguments
from recovering import Contender, contenders

from offloop.plugins import Registry
from offloop.runtime.memory.segments import Segment
from offloop.runtime.workers.process import spawn
from offloop.testing.faults import FaultsPlugin, Noop
from offloop.wire.codec import decode_from_worker, encode_frame
from offloop.wire.framing import MAX_FROM_WORKER_NBYTES, FrameReader
from offloop.wire.handles import EncodedAt
from offloop.wire.messages import Configure, Done, FromWorker, Ready, Run

BARE_INTERPRETER = "bare interpreter, start to exit"
BARE_READY = "bare worker, start to Ready"
BARE_ANSWER = "bare worker, start to first answer"
KILLS = 4  # number of kills of each contender in a turn
SETTLE_S = 0.3  # seconds between two kills, in which spares and the peers' threads are restored
TASKS, TASK_S, DONE_BEFORE_THE_KILL = 50, 0.02, 10
MIB = 1024 * 1024


# The floors


def bare_interpreter() -> float:
    started = perf_counter()
    subprocess.run([sys.executable, "-P", "-c", ""], check=True)
    return perf_counter() - started


class BareWorker:
    """One worker process and the minimum of messages with it."""

    def __init__(self) -> None:
        self._inbox, self._outbox = Segment(MIB, workers_write=False), Segment(MIB, workers_write=True)
        self._outbox.reserve_pages(0, 4096)
        self._registry = Registry([FaultsPlugin])
        self._frames = FrameReader(MAX_FROM_WORKER_NBYTES)

    async def times(self) -> tuple[float, float]:
        """Returns the seconds from before the spawn to `Ready`, and to the answer of a no-op."""
        started = perf_counter()
        process = spawn(self._inbox.worker_fd, self._outbox.worker_fd)
        channel = process.channel
        channel.sendall(encode_frame(Configure(0, MIB, MIB, self._registry.sources)))
        self._receive(channel, Ready)
        ready = perf_counter() - started
        channel.sendall(encode_frame(Run(1, (EncodedAt(None),), self._registry.stages([Noop()]), None)))
        self._receive(channel, Done)
        answered = perf_counter() - started
        process.kill()
        await process.wait(anyio.CapacityLimiter(1))
        process.close()
        return ready, answered

    def _receive(self, channel: socket.socket, last: type[FromWorker]) -> None:
        """Read messages up to the first one of that type."""
        while True:
            for frame in self._frames.feed(channel.recv(65536)):
                if isinstance(decode_from_worker(frame), last):
                    return

    def close(self) -> None:
        self._inbox.close()
        self._outbox.close()


# 1. From the kill to the next result


async def recovery(contender: Contender, *, busy: bool) -> tuple[float, int]:
    """Returns the seconds from the kill to the result of a no-op, and the number of no-ops that failed before it."""
    (victim,) = await contender.pids()
    occupied = asyncio.ensure_future(contender.sleep(600)) if busy else None
    await asyncio.sleep(SETTLE_S)
    lost = 0
    started = perf_counter()
    os.kill(victim, signal.SIGKILL)
    while True:
        try:
            await contender.sleep(0)
            break
        except Exception:
            lost += 1
            await asyncio.sleep(0)  # because a pool that raises at once must still be able to notice the death
            await contender.rebuild()
    took = perf_counter() - started
    if occupied is not None:
        await asyncio.gather(occupied, return_exceptions=True)
    return took, lost


async def measure_recovery(rounds: int, kills: int) -> tuple[Samples, dict[str, list[int]]]:
    samples: Samples = defaultdict(list, {name: [] for name in (BARE_INTERPRETER, BARE_READY, BARE_ANSWER)})
    lost: dict[str, list[int]] = defaultdict(list)
    bare = BareWorker()
    for _ in range(rounds):
        for contender in contenders(1):
            async with contender:
                for busy in (False, True):
                    for _ in range(kills):
                        samples[BARE_INTERPRETER].append(bare_interpreter())
                        ready, answered = await bare.times()
                        samples[BARE_READY].append(ready)
                        samples[BARE_ANSWER].append(answered)
                        took, lost_here = await recovery(contender, busy=busy)
                        name = f"{contender.name}: {'busy' if busy else 'idle'}"
                        samples[name].append(took)
                        lost[name].append(lost_here)
    bare.close()
    return samples, lost


def print_recovery(samples: Samples, lost: dict[str, list[int]]) -> None:
    floor = statistics.median(samples[BARE_READY])
    print("\nfrom SIGKILL to the result of the next no-op; milliseconds")
    print(f"{'':38}{'median':>8}{'least':>8}{'most':>8}{'/ bare Ready':>14}{'no-ops lost before':>20}")
    for name, values in samples.items():
        row = "".join(f"{value * 1e3:8.1f}" for value in (statistics.median(values), min(values), max(values)))
        told = f"{sum(lost[name])} in {len(values)} kills" if name in lost else ""
        print(f"{name:38}{row}{statistics.median(values) / floor:14.2f}{told:>20}")


# 2. Effect of a death on other tasks


async def fifty_tasks(contender: Contender, *, kill: bool) -> tuple[float, int]:
    """Returns the seconds until all tasks have an outcome, and the number of failed tasks."""
    victim = (await contender.pids())[0]
    done = 0
    failed = 0
    enough = asyncio.Event()

    async def one() -> None:
        nonlocal done, failed
        try:
            await contender.sleep(TASK_S)
        except Exception:
            failed += 1
        done += 1
        if done == DONE_BEFORE_THE_KILL:
            enough.set()

    started = perf_counter()
    tasks = [asyncio.ensure_future(one()) for _ in range(TASKS)]
    await enough.wait()
    if kill:
        await asyncio.sleep(TASK_S / 2)  # in the middle of the next tasks
        os.kill(victim, signal.SIGKILL)
    await asyncio.gather(*tasks)
    took = perf_counter() - started
    if failed:
        await contender.rebuild()
    return took, failed


async def measure_damage(rounds: int) -> None:
    print(f"\n{TASKS} tasks of {TASK_S * 1e3:g} ms on two workers, one of them killed; {rounds} turns")
    print(f"{'':38}{'failed':>8}{'of them others':>16}{'undisturbed, ms':>17}{'disturbed, ms':>15}")
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    failures: dict[str, list[int]] = defaultdict(list)
    for _ in range(rounds):
        for contender in contenders(2):
            async with contender:
                quiet, failed_quietly = await fifty_tasks(contender, kill=False)
                assert not failed_quietly
                disturbed, failed = await fifty_tasks(contender, kill=True)
                times[contender.name].append((quiet, disturbed))
                failures[contender.name].append(failed)
    for name, pairs in times.items():
        failed = failures[name]
        others = [max(0, number - 1) for number in failed]
        quiet, disturbed = (statistics.median(values) * 1e3 for values in zip(*pairs, strict=True))
        print(f"{name:38}{_span(failed):>8}{_span(others) + ' of 49':>16}{quiet:17.0f}{disturbed:15.0f}")


def _span(numbers: list[int]) -> str:
    return str(min(numbers)) if min(numbers) == max(numbers) else f"{min(numbers)}..{max(numbers)}"


async def main() -> None:
    options = arguments(__doc__)
    logging.getLogger("offloop").addHandler(logging.NullHandler())
    logging.getLogger("offloop").propagate = False  # because it reports every death
    rounds = 1 if options.smoke else max(1, options.rounds // 4)
    print_recovery(*await measure_recovery(rounds, 1 if options.smoke else KILLS))
    await measure_damage(rounds)


if __name__ == "__main__":
    anyio.run(main, backend_options={"use_uvloop": True})
