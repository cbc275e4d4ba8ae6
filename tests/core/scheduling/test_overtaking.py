"""Overtaking limit: it grows with the cost and is bounded; its factor changes only on strong evidence."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log
from random import Random

import pytest

from offloop.core.scheduling.overtaking import MAX_OVERTAKING_S, StableCostFactor, overtaking_limit_s

SAID_S = 0.02


def observed(*factors: float) -> StableCostFactor:
    factor = StableCostFactor()
    for one in factors:
        factor.observe(one, 0.0)
    return factor


def test_patience_grows_with_cost_up_to_its_bound() -> None:
    costs = [0.0, 0.001, 0.01, 0.05, 0.2, 0.5, 1.0, 1e6]
    patiences = [overtaking_limit_s(cost_s) for cost_s in costs]
    assert patiences == sorted(patiences)
    assert (patiences[0], patiences[-1]) == (0.0, MAX_OVERTAKING_S)


def test_similar_small_tasks_pass_each_other_for_less_than_a_second_and_thumbnails_pass_panoramas_for_half_a_minute() -> None:
    assert overtaking_limit_s(0.04) - overtaking_limit_s(0.01) < 1.0
    assert overtaking_limit_s(1.0) - overtaking_limit_s(0.01) > 25.0


def test_six_tasks_in_a_row_that_agree_change_the_factor_and_five_do_not() -> None:
    assert observed(*[5.0] * 5).now == 1.0
    assert observed(*[5.0] * 6).now == pytest.approx(5.0)
    assert observed(*[0.2] * 6).now == pytest.approx(0.2)


def test_one_task_in_the_other_direction_is_enough_to_keep_the_factor() -> None:
    assert observed(5.0, 5.0, 5.0, 1.0, 5.0, 5.0, 5.0).now == 1.0
    assert observed(5.0, 5.0, 5.0, 0.1, 5.0, 5.0, 5.0).now == 1.0


def test_a_deviation_below_two_changes_nothing() -> None:
    assert observed(*[1.9] * 20).now == 1.0
    assert observed(*[0.55] * 20).now == 1.0


def test_a_task_that_took_no_measurable_time_is_no_error() -> None:
    assert observed(*[0.0] * 6).now > 0.0


def test_after_a_change_the_factor_stays_until_the_work_clock_has_passed_every_place_before_it() -> None:
    factor = observed(*[5.0] * 6)
    for _ in range(20):
        factor.observe(1.0, MAX_OVERTAKING_S - 0.1)
    assert factor.now == pytest.approx(5.0)
    factor.observe(1.0, MAX_OVERTAKING_S)
    assert factor.now == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_equal_tasks_are_never_placed_before_earlier_ones_also_if_the_factor_changes_in_between(seed: int) -> None:
    random, factor, clock_s = Random(seed), StableCostFactor(), 0.0
    places: list[float] = []
    changes = 0
    for _ in range(20_000):
        places.append(factor.place_s(clock_s, SAID_S))
        clock_s += random.expovariate(20.0)
        before = factor.now
        factor.observe(exp(random.gauss(0.0, log(8.0))), clock_s)
        changes += factor.now != before
    assert changes >= 3
    assert all(earlier <= later for earlier, later in pairwise(places))


def test_a_task_that_was_submitted_before_a_change_and_is_placed_after_it_gets_the_place_that_it_had() -> None:
    factor = StableCostFactor()
    early = factor.place_s(1.0, SAID_S)
    for _ in range(6):
        factor.observe(9.0, 2.0)
    assert factor.place_s(1.0, SAID_S) == early
    assert factor.place_s(2.0, SAID_S) == pytest.approx(2.0 + overtaking_limit_s(9.0 * SAID_S))
