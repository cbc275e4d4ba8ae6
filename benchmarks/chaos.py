"""Does every task have a correct outcome while workers and tasks fail?

A soak test: mixed real work (pictures in all formats, echoes, chains of results, files, streams, results that are released
late), while a saboteur kills and stops workers from outside, and some tasks crash, hang, flood stderr, are corrupt, too late or
cancelled. At the end it checks:

- every task has exactly one outcome, which its faults allow; and not more faultless tasks lost their worker than workers were
  killed from outside;
- every output equals the digest from a run without faults, on arrival and again before its view is released;
- the pool's statistics balance, there is no lease, and the arena is empty;
- descriptors, threads, children and /dev/shm are as before.

With `--crowd`, callers fill shared memory instead, in one event loop after another (`chaos_crowd.py`). For a small /dev/shm:

    unshare -m sh -c 'mount -t tmpfs -o size=64m tmpfs /dev/shm; exec python benchmarks/chaos.py --crowd --seconds 600'

    python benchmarks/chaos.py [--seconds 30] [--seed N] [--workers 2] [--spares 0] [--tasks 10] [--loop uvloop]

Prints its seed, and exits with 1 after a violation. The seed determines the actions, but not their times.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, get_args

import anyio
import anyio.to_thread
from chaos_crowd import End, crowd_round
from chaos_saboteur import LETHAL, Census, Saboteur, resident_bytes
from chaos_work import Job, Work, digest

import offloop
from offloop import Pool, Result, WorkerDied
from offloop.client.sources import Source
from offloop.testing.faults import Echo, FaultsPlugin

LAG_STEP_S = 0.005
IDLE_THREADS_S = 12.0  # maximum seconds until idle threads end; trio keeps them for ten seconds after its loop has ended
ROUND_S = 4.0  # seconds of a crowd's round before its loop ends
SMALL_NBYTES = 32 * 1024  # largest output whose digest is computed on the loop
END_S = 90.0  # maximum seconds from the last submission to the last outcome
HAS_RESIZE = hasattr(Pool, "resize")
HAS_SPARES = "spares" in inspect.signature(Pool).parameters
QUARANTINED: type[Exception] | tuple[()] = getattr(offloop, "TaskQuarantined", ())  # no error is an instance of ()


class Soak:
    """One run: its jobs, its counters, and the violations."""

    def __init__(self, pool: Pool, work: Work, directory: Path) -> None:
        self.pool = pool
        self.work = work
        self.directory = directory
        self.outcomes: Counter[str] = Counter()  # "kind: outcome"
        self.totals: Counter[str] = Counter()  # outcome
        self.submitted = 0
        self.victims: list[str] = []  # faultless tasks whose worker died
        self.deaths: Counter[str] = Counter()  # recipe and source -> workers that died over it
        self.violations: list[str] = []
        self.lags: Counter[int] = Counter()  # lag of the loop in 0.1 ms -> number; no list, because it would grow
        self.max_load_s = 0.0  # CPU time of the loop's thread within one step
        self.under_way: dict[int, Job] = {}

    # Run without faults

    async def learn(self) -> None:
        """Compute the digest of every recipe in a run without faults."""
        for recipe, job in self.work.recipes.items():
            result = await self.pool.run(job.data, job.pipeline)
            if job.then:
                result = await self.pool.run(result, job.then)
            self.submitted += 1 + bool(job.then)
            self.totals["ok"] += 1 + bool(job.then)
            self.work.outputs[recipe] = digest(result.data)

    # The soak

    async def drive(self, numbers: count[int], until: float) -> None:
        """Run one task after another."""
        while time.monotonic() < until:
            number = next(numbers)
            job = self.under_way[number] = self.work.job(number)
            await self._carry_out(number, job)
            del self.under_way[number]

    async def sample_lag(self) -> None:
        """Measure the lag of the loop until cancelled."""
        while True:
            due, load = time.monotonic() + LAG_STEP_S, time.thread_time()
            await anyio.sleep(LAG_STEP_S)
            self.max_load_s = max(self.max_load_s, time.thread_time() - load)
            self.lags[max(0, int((time.monotonic() - due) * 1e4))] += 1

    async def _carry_out(self, number: int, job: Job) -> None:
        error: Exception | None = None
        cancel_after_s = float("inf") if job.cancel_after_s is None else job.cancel_after_s
        with anyio.move_on_after(cancel_after_s) as scope:
            try:
                await self._both_tasks(number, job)
            except Exception as raised:
                error = raised
        (self.directory / str(number)).unlink(missing_ok=True)
        if scope.cancelled_caught:
            self._book(job, "cancelled")
        elif error is not None:
            self._judge(number, job, error)

    async def _both_tasks(self, number: int, job: Job) -> None:
        result = await self._run(job, await self._source(job), job.pipeline, None if job.then else self._file(number, job))
        if job.then:
            self._book(job, "ok")
            source = result.array() if result.raster is not None and number % 2 else result
            result = await self._run(job, source, job.then, self._file(number, job))
            del source
        self._book(job, "ok")
        with anyio.CancelScope(shield=True):  # what follows is ours, not the pool's
            await self._check(number, job, result)

    async def _run(self, job: Job, source: Source, pipeline: tuple[offloop.Operation, ...], to: Path | None) -> Result:
        self.submitted += 1
        return await self.pool.run(source, pipeline, timeout=job.timeout_s, queue_timeout=job.queue_timeout_s, to=to)

    def _file(self, number: int, job: Job) -> Path | None:
        return self.directory / str(number) if job.to_file else None

    async def _source(self, job: Job) -> Source:
        match job.form:
            case "path" if job.path is not None:
                return job.path
            case "buffer":
                buffer = await self.pool.buffer(len(job.data)).ready()
                buffer.view[:] = job.data
                return buffer
            case "stream":
                return await self.pool.receive(_chunks(job.data))
            case _:
                return job.data

    # Outcomes

    async def _check(self, number: int, job: Job, result: Result) -> None:
        if not job.may_succeed:
            self._violated(number, job, f"succeeded with {result!r}")
        if job.any_output:
            return
        expected = digest(job.data) if job.recipe == "echo" else self.work.outputs[job.recipe]
        output: memoryview | bytes = result.data if result.path is None else result.path.read_bytes()
        if await _digest(output) != expected:
            self._violated(number, job, f"wrong output: {result!r}")
        elif job.hold_s:
            await anyio.sleep(job.hold_s)
            if await _digest(output) != expected:
                self._violated(number, job, f"its output changed while it was held: {result!r}")

    def _judge(self, number: int, job: Job, error: Exception) -> None:
        self._book(job, type(error).__name__)
        fingerprint = f"{job.recipe}: {digest(job.data)}"
        if isinstance(error, WorkerDied):
            self.deaths[fingerprint] += 1
        if isinstance(error, job.errors):
            return
        if isinstance(error, QUARANTINED) and (job.poison or self.deaths[fingerprint]):
            return  # the pool has seen workers die over it
        if isinstance(error, WorkerDied) and error.signal in LETHAL and error.reason is None:
            self.victims.append(f"task {number}, {job.kind}")
        else:
            self._violated(number, job, f"{type(error).__name__}: {error}")

    def _book(self, job: Job, outcome: str) -> None:
        self.outcomes[f"{job.kind}: {outcome}"] += 1
        self.totals[outcome] += 1

    def _violated(self, number: int, job: Job, what: str) -> None:
        short = replace(job, data=job.data[:16])
        self.violations.append(f"task {number}: {what[:2000]}\n    {short!r}, {len(job.data):,} bytes")

    # Closing

    def close_books(self, saboteur: Saboteur) -> None:
        """Check the pool while it is open and no task runs."""
        gc.collect()
        numbers = self.pool.statistics()
        for holder in ("caller", "task", "stager", "worker", "reservation"):
            if numbers.leases[holder]:
                self.violations.append(f"{numbers.leases[holder]} leases of {holder!r} are left")
        if len(self.victims) > saboteur.kills:
            self.violations.append(f"{len(self.victims)} innocent tasks lost their worker, and {saboteur.kills} were killed")

    def close_books_after(self) -> None:
        """Check the closed pool."""
        now = self.pool.statistics()
        died, late = self.totals["WorkerDied"], self.totals["TaskTimeout"]
        refused = self.totals["QueueTimeout"] + self.totals["TaskQuarantined"]
        failed = self.totals["TaskFailed"] + self.totals["PluginError"]
        left_early = self.totals["cancelled"]  # some callers left when their task had just ended in another way
        ended = now.completed + now.failed + now.timed_out + now.cancelled + now.worker_died + now.refused
        for what, theirs, least, most in (
            ("submitted", now.submitted, self.submitted, self.submitted),
            ("outcomes", ended, self.submitted, self.submitted),
            ("completed", now.completed, self.totals["ok"], self.totals["ok"] + left_early),
            ("failed", now.failed, failed, failed + left_early),
            ("worker_died", now.worker_died, died, died + left_early),
            ("timed_out", now.timed_out, late, late + left_early),
            ("refused", now.refused, refused, refused + left_early),
            ("cancelled", now.cancelled, 0, left_early),
            ("waiting", now.waiting, 0, 0),
            ("running", now.running, 0, 0),
            ("memory_used_bytes", now.memory_used_bytes, 0, 0),
            ("memory_reserved_bytes", now.memory_reserved_bytes, 0, 0),
            ("leases", sum(now.leases.values()), 0, 0),
        ):
            if not least <= theirs <= most:
                self.violations.append(f"the pool's {what} is {theirs}, and the callers saw {least} to {most}")
        if set(now.workers) - {"gone"}:
            self.violations.append(f"workers after closing: {now.workers}")
        if left := sorted(entry.name for entry in self.directory.iterdir()):
            self.violations.append(f"files left: {left[:10]}")


async def _digest(data: memoryview | bytes) -> str:
    return digest(data) if len(data) < SMALL_NBYTES else await anyio.to_thread.run_sync(digest, data)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 50_000):
        yield data[start : start + 50_000]
        await anyio.lowlevel.checkpoint()


async def soak(options: argparse.Namespace, directory: Path, violations: list[str]) -> None:
    """One pool, one saboteur."""
    settings = {"spares": options.spares} if HAS_SPARES else {}
    settings["sandbox"] = "off"  # because tasks leave child processes
    pool = Pool(options.workers, plugins=["vips", FaultsPlugin], memory_limit=options.memory_limit, grace=0.1, **settings)
    run = Soak(pool, Work(options.seed), directory)
    run.violations = violations
    saboteur = Saboteur(options.seed, options.pause, pool.resize if HAS_RESIZE else None)
    async with pool:
        with anyio.fail_after(END_S):
            await run.learn()
        memory = resident_bytes()
        await _disturbed(options, run, saboteur)
        run.close_books(saboteur)
        grown = resident_bytes() - memory
        starts = pool.statistics().worker_starts
    run.close_books_after()
    print_report(run, saboteur, grown, starts)


async def _disturbed(options: argparse.Namespace, run: Soak, saboteur: Saboteur) -> None:
    until = time.monotonic() + options.seconds
    numbers = count(1)
    patience = anyio.move_on_after(options.seconds + END_S)
    async with anyio.create_task_group() as watchers:
        watchers.start_soon(run.sample_lag)
        watchers.start_soon(saboteur.work)
        with patience:
            async with anyio.create_task_group() as drivers:
                for _ in range(options.tasks):
                    drivers.start_soon(run.drive, numbers, until)
                drivers.start_soon(_announce, run, until)
        watchers.cancel_scope.cancel()
    if patience.cancelled_caught:
        waiting = ", ".join(f"{number} ({job.kind})" for number, job in run.under_way.items())
        run.violations.append(f"no outcome {END_S:g} s after the end: {waiting}; {run.pool.statistics()}")


async def _announce(run: Soak, until: float) -> None:
    while (left := until - time.monotonic()) > 0:
        await anyio.sleep(min(30.0, left))
        memory = resident_bytes() // 1024
        print(f"... {run.submitted:,} tasks, {len(run.violations)} violations, own memory {memory:,} KiB", flush=True)


async def warm_up() -> None:
    """Start what the process keeps after its first pool (the resource tracker, numpy's threads), so that it is not counted."""
    import_module("numpy")  # for `result.array()`

    async with Pool(1, plugins=["vips", FaultsPlugin]) as pool:
        await pool.run(bytes(1_000_000), [Echo()])


def crowds(options: argparse.Namespace, run: Callable[..., Any], violations: list[str]) -> None:
    """Run one event loop after another, each with a crowd and its own kind of end."""
    ends: tuple[End, ...] = get_args(End)
    outcomes: Counter[str] = Counter()
    settings = {"workers": options.workers, "spares": options.spares, "memory_limit": options.memory_limit}
    until, number = time.monotonic() + options.seconds, 0
    while time.monotonic() < until:
        end = ends[number % len(ends)]
        try:
            crowd = run(crowd_round, options.seed + number, end, ROUND_S, options.tasks, settings)
        except Exception as error:
            violations.append(f"round {number}, {end}: {error!r}")
        else:
            outcomes += crowd.outcomes
            violations += [f"round {number}, {end}: {found}" for found in crowd.violations]
        number += 1
    print(f"  {number} loops: {', '.join(f'{n:,} {outcome}' for outcome, n in sorted(outcomes.items()))}")


def print_report(run: Soak, saboteur: Saboteur, grown: int, starts: int) -> None:
    kinds: dict[str, list[str]] = {}
    for name, number in sorted(run.outcomes.items()):
        kind, outcome = name.split(": ")
        kinds.setdefault(kind, []).append(f"{number:,} {outcome}")
    for kind, outcomes in kinds.items():
        print(f"  {kind:10} {', '.join(outcomes)}")
    deeds = ", ".join(f"{number} {deed}" for deed, number in sorted(saboteur.deeds.items()))
    print(f"sabotage: {deeds}; {len(run.victims)} innocent tasks lost their worker; {starts} worker starts")
    p99, most = _lag_ms(run.lags, 0.99), _lag_ms(run.lags, 1.0)
    print(f"the loop's lag: p99 {p99:.1f} ms, most {most:.1f} ms; most CPU time in one step {run.max_load_s * 1e3:.1f} ms")
    print(f"own memory: {grown / 1024:+,.0f} KiB")


def _lag_ms(lags: Counter[int], share: float) -> float:
    """Returns the lag that this fraction of all samples does not exceed."""
    left = lags.total() * share
    for tenths in sorted(lags):
        left -= lags[tenths]
        if left <= 0:
            return tenths / 10
    return 0.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one each time")
    parser.add_argument("--workers", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--spares", type=int, default=0, help="warm workers (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=10, help="under way at a time (default: %(default)s)")
    parser.add_argument("--pause", type=float, default=0.4, help="mean seconds between two sabotages (default: %(default)s)")
    parser.add_argument("--loop", choices=["asyncio", "uvloop", "trio"], default="uvloop", help="(default: %(default)s)")
    parser.add_argument("--crowd", action="store_true", help="fill shared memory, in one loop after another")
    parser.add_argument("--memory-limit", default="256MiB", help="of the pools (default: %(default)s)")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000)
    return options


def main() -> int:
    options = arguments()
    features = {"Pool.resize": HAS_RESIZE, "Pool(spares=)": HAS_SPARES, "TaskQuarantined": bool(QUARANTINED)}
    missing = [name for name, there in features.items() if not there]
    print(f"chaos for {options.seconds:g} s on {options.loop}, --seed {options.seed}", flush=True)
    if missing:
        print(f"  not in this offloop, so not a part of it: {', '.join(missing)}")
    logging.getLogger("offloop").addHandler(logging.NullHandler())
    logging.getLogger("offloop").propagate = False  # because tasks flood the log on purpose
    run = partial(
        anyio.run,
        backend="trio" if options.loop == "trio" else "asyncio",
        backend_options={} if options.loop == "trio" else {"use_uvloop": options.loop == "uvloop"},
    )
    run(warm_up)
    if options.loop == "trio":
        time.sleep(IDLE_THREADS_S)
    before = Census.take()
    violations: list[str] = []
    if options.crowd:
        crowds(options, run, violations)
    else:
        with tempfile.TemporaryDirectory(prefix="chaos-") as directory:
            run(soak, options, Path(directory), violations)
    violations += before.differences(limit_s=IDLE_THREADS_S)
    for violation in violations[:20]:
        print(f"VIOLATED: {violation}")
    print(f"{'no violation' if not violations else f'{len(violations)} violations'}, --seed {options.seed}")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main())
