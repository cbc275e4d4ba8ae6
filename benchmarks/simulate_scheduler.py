"""How does the scheduler's order affect the waits of small and large tasks, tenants and priorities?

Traces of a hundred thousand tasks are replayed in seconds through the pool's core, which is a pure function of events and time,
and through plain models of first come first served, shortest first and processor sharing. Some are repeated with a memory
budget that fits little more than one large task (tight). The core also gets wrong estimates (lognormal, a factor of two).

The output for each: slowdown (time from arrival to end / cost of the task) and wait by class of size, tenant and priority; the
number of equal later tasks that passed a task; the total time; Jain's index of the tenants' service relative to their weights
while all compete; the peak memory of running tasks; and the CPU time of the core's decisions, by the number of waiting tasks.

Then crowds of callers, each of which submits its next task when its last one has ended. The costs of tasks vary by a factor of
two around their estimates. The output compares waits under the core with waits at a semaphore.

    python benchmarks/simulate_scheduler.py [--trace mix80] [--picture docs/pictures/scheduler.svg]

Expected, and checked (exit code 1): no worker is idle while there is memory for the next task; no task is overtaken by a task
that arrived after more than the given bound of work; if estimates are right, running tasks use at most the budget; in a crowd
no task passes an equal one; and callers with one picture wait at most 1.2 times as long as at a semaphore, at the 99th
percentile.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from simulation.callers import CROWDS, Crowd, first_come, offloop
from simulation.checks import overtaken_for_too_long, passed_by_equals
from simulation.figures import Figures, figures_of, percentile
from simulation.models import first_come_first_served, processor_sharing, shortest_first
from simulation.schedule import Schedule
from simulation.the_core import Replay, cost_per_task
from simulation.traces import TRACES, Trace, misjudged

SMOKE_TASKS = 2_000
FACTOR = 2.0  # factor of the error of wrong estimates
P99_OF_FIRST_COME = 1.2
TIGHT = 1.25  # tight budget / memory of the largest task
MODELS: dict[str, Callable[..., Schedule]] = {
    "first come": first_come_first_served,
    "first come, tight": first_come_first_served,
    "shortest first": shortest_first,
    "shortest first, tight": shortest_first,
    "processor sharing": processor_sharing,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help=f"{SMOKE_TASKS:,} tasks a trace, for CI")
    parser.add_argument("--tasks", type=int, default=100_000, help="in each trace (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the traces (default: %(default)s)")
    parser.add_argument("--trace", action="append", choices=list(TRACES), help="only this one; may be repeated")
    parser.add_argument("--picture", type=Path, help="draw the figure into this file; needs the extra `bench`")
    return parser.parse_args()


def show(name: str, figures: Figures, seconds: float) -> None:
    fairness = "" if figures.fairness is None else f"fairness {figures.fairness:.3f}, "
    print(f"  {name}: total {figures.total_s:,.1f} s, {fairness}{figures.peak_bytes >> 20:,} MiB [{seconds:.1f} s]")
    for group_name, group in figures.groups.items():
        lost = f"{group.refused:,} refused " if group.refused else ""
        lost += f"{group.stopped:,} stopped" if group.stopped else ""
        print(
            f"    {group_name:10}{group.tasks:9,}"
            f"{group.mean_slowdown:12,.2f}{group.p95_slowdown:10,.2f}{group.max_slowdown:11,.1f}"
            f"{group.mean_wait_s:12,.3f}{group.p95_wait_s:9,.3f}{group.max_wait_s:9,.3f}{group.max_passed:9,}  {lost}"
        )


def replay(trace: Trace, seed: int) -> list[str]:
    """Run every policy on one trace. Returns the violations."""
    tight = round(TIGHT * trace.largest_bytes)
    print(f"\n{trace.name}: {len(trace.arrivals):,} tasks, {trace.workers} workers; a tight budget is {tight >> 20:,} MiB")
    print(f"{'':14}{'tasks':>9}{'slowdown':>12}{'p95':>10}{'most':>11}{'wait, s':>12}{'p95':>9}{'most':>9}{'passed':>9}")
    for name, model in MODELS.items():
        began = perf_counter()
        schedule = model(trace, tight) if name.endswith("tight") else model(trace)
        show(name, figures_of(trace, schedule), perf_counter() - began)
    wrong = misjudged(trace, FACTOR, seed)
    broken = replay_core("offloop", trace, None)
    broken += replay_core("offloop, wrong estimates", wrong, None)
    broken += replay_core("offloop, tight", trace, tight)
    broken += replay_core("offloop, wrong estimates, tight", wrong, tight, wrong=True)
    return [f"{trace.name}, {what}" for what in broken]


def replay_core(name: str, trace: Trace, budget_bytes: int | None, *, wrong: bool = False) -> list[str]:
    """Run the core on one trace. Returns the violations. With wrong estimates, the budget is not checked."""
    began = perf_counter()
    run = Replay(trace, budget_bytes)
    schedule = run.run()
    figures = figures_of(trace, schedule)
    show(name, figures, perf_counter() - began)
    held_back = run.held_back_s / figures.total_s / trace.workers
    print(f"    {run.cpu_s / len(trace.arrivals) * 1e6:.0f} us of CPU time for each task, all included; ", end="")
    print(f"{held_back:.1%} of the workers' time idle while tasks waited", run.refusals or "")
    broken = overtaken_for_too_long(trace, schedule, wrong=FACTOR if "wrong" in name else 1.0) + run.idle_in_vain
    if budget_bytes is not None and figures.peak_bytes > budget_bytes:
        print(f"    the budget was exceeded by {figures.peak_bytes / budget_bytes - 1:.0%}")
        if not wrong:
            broken.append(f"{figures.peak_bytes:,} bytes were taken of {budget_bytes:,}")
    return [f"{name}: {what}" for what in broken]


def show_crowds(tasks: int, seed: int) -> list[str]:
    """Run closed loops, and compare with a semaphore. Returns the violations."""
    print(f"\nwaits of callers that submit again at once, s; {tasks:,} tasks each")
    print(f"{'':36}{'p50':>9}{'p99':>9}{'most':>9}{'p99 / first come':>18}{'passed':>9}")
    broken: list[str] = []
    for crowd in CROWDS:
        fifo = show_crowd("first come", crowd, first_come(crowd, tasks, seed), None)
        trace, schedule = offloop(crowd, tasks, seed)
        p99 = show_crowd("offloop", crowd, (trace, schedule), fifo)
        if passed_by_equals(trace, schedule):
            broken.append(f"{crowd.name}: equal tasks passed each other")
        if len(crowd.pictures) == 1 and p99 > P99_OF_FIRST_COME * fifo:
            broken.append(f"{crowd.name}: the p99 of waits is {p99:.3f} s, and {fifo:.3f} s at a semaphore")
    return broken


def show_crowd(policy: str, crowd: Crowd, ran: tuple[Trace, Schedule], fifo_p99_s: float | None) -> float:
    """Print a row for all tasks, and a row for each of several pictures. Returns the 99th percentile of all waits."""
    trace, schedule = ran
    waits_s = [began - arrival.at for arrival, began in zip(trace.arrivals, schedule.began, strict=True)]
    passed = passed_by_equals(trace, schedule)
    print(f"  {crowd.name}, {policy}")
    everything = sorted(waits_s)
    groups = {"all": everything}
    if len(crowd.pictures) > 1:
        for kind in crowd.pictures:
            groups[kind] = sorted(wait for wait, arrival in zip(waits_s, trace.arrivals, strict=True) if arrival.kind == kind)
    for name, group in groups.items():
        ratio = "" if fifo_p99_s is None else f"{percentile(group, 99) / fifo_p99_s:.2f}"
        figures = "".join(f"{seconds:9.3f}" for seconds in (percentile(group, 50), percentile(group, 99), group[-1]))
        print(f"    {name:32}{figures}{ratio:>18}" + (f"{max(passed.values(), default=0):9,}" if name == "all" else ""))
    return percentile(everything, 99)


def show_costs(tasks: int) -> None:
    print("\nthe core's own time for a task that comes and one that ends, in us, while so many wait")
    lengths = [waiting for waiting in (100, 10_000, 100_000) if waiting <= tasks]
    print(f"{'tenants':>10}" + "".join(f"{waiting:>10,}" for waiting in lengths))
    for tenants in (1, 100, 1000):
        costs = (cost_per_task(waiting, tenants, tasks=500) for waiting in lengths)
        print(f"{tenants:>10,}" + "".join(f"{seconds * 1e6:10.0f}" for seconds in costs))


def main() -> int:
    options = parse()
    tasks = SMOKE_TASKS if options.smoke else options.tasks
    broken: list[str] = []
    for name in options.trace or TRACES:
        broken += replay(TRACES[name](tasks, options.seed), options.seed)
    if not options.trace:
        broken += show_crowds(max(tasks // 10, 1_000), options.seed)
    show_costs(tasks)
    if options.picture is not None:
        from simulation.picture import draw

        draw(options.picture, min(tasks, 30_000), options.seed)
    for what in broken[:20]:
        print(what, file=sys.stderr)
    print(f"\n{len(broken):,} violations")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
