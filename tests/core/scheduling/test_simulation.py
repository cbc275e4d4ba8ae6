"""The simulator of the scheduler: its models agree with results computed by hand, and the same seed gives the same numbers."""

from __future__ import annotations

import msgspec
import pytest
from simulation.callers import CROWDS, Crowd, first_come, offloop
from simulation.checks import overtaken_for_too_long, passed_by_equals
from simulation.figures import figures_of, memory_over_time, percentile
from simulation.models import first_come_first_served, processor_sharing, shortest_first
from simulation.schedule import Schedule
from simulation.the_core import Replay
from simulation.traces import TRACES, Arrival, Trace, misjudged

TASKS = 330

THREE = Trace("three", [Arrival(0.0, 4.0, 40), Arrival(1.0, 3.0, 30), Arrival(2.0, 1.0, 10)], workers=1)
"""Two tasks are submitted while the first one runs, the longer one first."""


def test_first_come_first_served_by_hand() -> None:
    schedule = first_come_first_served(THREE)
    assert schedule.began == [0.0, 4.0, 7.0]
    assert schedule.ended == [4.0, 7.0, 8.0]


def test_shortest_first_by_hand() -> None:
    schedule = shortest_first(THREE)
    assert schedule.began == [0.0, 5.0, 4.0]
    assert schedule.ended == [4.0, 8.0, 5.0]


def test_processor_sharing_by_hand() -> None:
    # alone until 1, in halves until 2, in thirds until the third has its second at 5, in halves until the second has its last
    # 1.5 at 8; then the first has had all but nothing
    schedule = processor_sharing(THREE)
    assert schedule.ended == pytest.approx([8.0, 8.0, 5.0])


def test_processor_sharing_gives_no_task_more_than_one_worker() -> None:
    schedule = processor_sharing(Trace("three", THREE.arrivals, workers=2))
    # two workers for two tasks until 2, then two thirds each; the third is through at 3.5, and two are alone again
    assert schedule.ended == pytest.approx([4.5, 4.5, 3.5])


def test_within_a_budget_a_first_task_that_does_not_fit_delays_the_others() -> None:
    trace = Trace("three", THREE.arrivals, workers=3)
    assert first_come_first_served(trace, budget_bytes=50).began == [0.0, 4.0, 4.0]
    assert shortest_first(trace, budget_bytes=50).began == [0.0, 4.0, 2.0]


def test_figures_by_hand() -> None:
    figures = figures_of(THREE, first_come_first_served(THREE))
    large = figures.groups["large"]
    assert large.mean_slowdown == pytest.approx((4 / 4 + 6 / 3 + 6 / 1) / 3)
    assert (large.p95_slowdown, large.max_slowdown) == (6.0, 6.0)
    assert (large.mean_wait_s, large.p95_wait_s) == (pytest.approx((0 + 3 + 5) / 3), 5.0)
    assert (figures.total_s, figures.peak_bytes, figures.fairness) == (8.0, 40, None)


def test_memory_is_that_of_the_running_tasks() -> None:
    trace = Trace("three", THREE.arrivals, workers=2)
    steps = memory_over_time(trace, first_come_first_served(trace))
    assert steps == [(0.0, 0), (0.0, 40), (1.0, 70), (4.0, 30), (4.0, 0), (4.0, 10), (5.0, 0)]


def test_fairness_is_relative_to_the_weights() -> None:
    arrivals = [Arrival(0.0, 1.0, 1, tenant) for tenant in "abbabb"]
    schedule = Schedule("by turns", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    equal = Trace("two", arrivals, workers=1, weights={"a": 1.0, "b": 1.0})
    assert figures_of(equal, schedule).fairness == pytest.approx(1.0)  # 2 s each, of the 4 s that they compete for
    weighted = Trace("two", arrivals, workers=1, weights={"a": 1.0, "b": 2.0})
    assert figures_of(weighted, schedule).fairness == pytest.approx(3**2 / (2 * (2**2 + 1**2)))


def test_a_task_that_is_overtaken_for_too_long_is_found() -> None:
    arrivals = [Arrival(at, work_s, 1, estimated_s=work_s) for at, work_s in ((0.0, 1.0), (1.0, 28.5), (2.0, 1.0))]
    trace = Trace("three", arrivals, workers=1)
    assert overtaken_for_too_long(trace, Schedule("", [70.0, 30.0, 80.0], [71.0, 58.5, 81.0])) == []
    assert overtaken_for_too_long(trace, Schedule("", [70.0, 30.0, 60.0], [71.0, 58.5, 61.0])) == []
    later = Trace("three", [*arrivals[:2], msgspec.structs.replace(arrivals[1], at=1.5), arrivals[2]], workers=1)
    assert len(overtaken_for_too_long(later, Schedule("", [90.0, 20.0, 50.0, 80.0], [91.0, 48.5, 78.5, 81.0]))) == 1


@pytest.mark.parametrize("name", TRACES)
def test_the_same_seed_gives_the_same_numbers(name: str) -> None:
    first, second, other = (misjudged(TRACES[name](TASKS, seed), 2.0, seed) for seed in (7, 7, 8))
    assert first == second != other
    assert figures_of(first, Replay(first).run()) == figures_of(second, Replay(second).run())


@pytest.mark.parametrize("name", TRACES)
def test_the_core_breaks_no_promise_on_a_trace(name: str) -> None:
    trace = misjudged(TRACES[name](TASKS, 3), 2.0, 3)
    replay = Replay(trace)
    schedule = replay.run()
    assert replay.idle_in_vain == []
    assert overtaken_for_too_long(trace, schedule, wrong=2.0) == []


@pytest.mark.parametrize("name", TRACES)
def test_where_memory_is_scarce_and_estimates_are_right_the_core_keeps_the_budget(name: str) -> None:
    trace = TRACES[name](TASKS, 3)
    budget_bytes = trace.largest_bytes + trace.largest_bytes // 4
    replay = Replay(trace, budget_bytes)
    assert figures_of(trace, replay.run()).peak_bytes <= budget_bytes
    assert (replay.idle_in_vain, replay.refusals) == ([], {})


def test_equal_tasks_that_passed_each_other_are_found() -> None:
    arrivals = [Arrival(float(number), 1.0, 1, kind=kind) for number, kind in enumerate("aabaa")]
    schedule = Schedule("", [4.0, 1.0, 0.0, 2.0, 5.0], [5.0, 2.0, 1.0, 3.0, 6.0])
    assert passed_by_equals(Trace("five", arrivals, workers=2), schedule) == {0: 2}


@pytest.mark.parametrize("crowd", CROWDS, ids=lambda crowd: crowd.name)
@pytest.mark.parametrize("noise", [2.0, 4.0])
def test_equal_work_is_served_in_the_order_of_arrival_however_noisy_its_cost_is(crowd: Crowd, noise: float) -> None:
    noisy = msgspec.structs.replace(crowd, noise=noise)
    for seed in range(3):
        trace, schedule = offloop(noisy, 1_500, seed)
        assert passed_by_equals(trace, schedule) == {}


@pytest.mark.parametrize("workers", [2, 6])
@pytest.mark.parametrize("budget_mib", [300, 450])
@pytest.mark.parametrize("pictures", [{"one": (1.0, 0.3)}, {"one": (0.8, 0.3), "small": (0.2, 0.05)}], ids=len)
def test_equal_work_that_waits_for_memory_is_served_in_order_however_noisy_its_memory_is(
    workers: int, budget_mib: int, pictures: dict[str, tuple[float, float]]
) -> None:
    crowd = Crowd("noisy", 20, pictures, workers, memory_noise=2.0, budget_bytes=budget_mib << 20)
    trace, schedule = offloop(crowd, 600, 1)
    assert passed_by_equals(trace, schedule) == {}


@pytest.mark.parametrize("callers", [20, 200])
def test_callers_with_one_picture_wait_as_long_as_at_a_semaphore(callers: int) -> None:
    crowd = Crowd("one picture", callers, {"picture": (1.0, 0.02)}, noise=4.0)
    waits: list[list[float]] = []
    for policy in (first_come, offloop):
        trace, schedule = policy(crowd, 2_000, 1)
        waits.append(sorted(began - arrival.at for arrival, began in zip(trace.arrivals, schedule.began, strict=True)))
    for percent in (50, 99, 100):
        assert percentile(waits[1], percent) <= 1.02 * percentile(waits[0], percent)


def test_in_an_overload_the_core_keeps_its_bound_where_shortest_first_does_not() -> None:
    arrivals = [Arrival(number / 2, cost_s, 1, estimated_s=cost_s) for number, cost_s in enumerate([2.0, 0.4] * 150)]
    trace = Trace("overload", arrivals, workers=1)
    assert overtaken_for_too_long(trace, shortest_first(trace)) != []
    assert overtaken_for_too_long(trace, Replay(trace).run()) == []
