"""Concurrency limiter: halved while the machine is short of memory, raised by one while it is plentiful."""

from __future__ import annotations

import pytest

from offloop.core.workers.concurrency_limiter import AimdLimiter

SHORT, BETWEEN, PLENTY = 0.01, 0.07, 0.5


def test_without_pressure_nothing_is_bounded() -> None:
    pressure = AimdLimiter()
    pressure.observe(PLENTY, 0.0, 8, 1.0)
    assert pressure.limit is None


def test_when_memory_is_short_the_number_is_halved_down_to_one() -> None:
    pressure = AimdLimiter()
    allowed: list[int | None] = []
    for second in (0, 2, 4, 6):
        pressure.observe(SHORT, 0.0, 9, second)
        allowed.append(pressure.limit)
    assert allowed == [4, 2, 1, 1]


def test_when_it_is_plentiful_the_number_is_raised_by_one_up_to_all() -> None:
    pressure = AimdLimiter()
    pressure.observe(SHORT, 0.0, 4, 0.0)
    allowed: list[int | None] = []
    for second in (2, 4, 6):
        pressure.observe(PLENTY, 0.0, 4, second)
        allowed.append(pressure.limit)
    assert allowed == [3, None, None]


@pytest.mark.parametrize(
    ("available", "stalled", "expected"),
    [
        (0.049, 0.0, 2),
        (0.051, 0.0, 4),
        (0.09, 0.0, 4),
        (PLENTY, 0.21, 2),
        (PLENTY, 0.19, 4),
        (PLENTY, 0.06, 4),
        (PLENTY, 0.04, 5),
        (0.11, 0.0, 5),
    ],
)
def test_between_short_and_plenty_lies_a_band_in_which_nothing_changes(available: float, stalled: float, expected: int) -> None:
    pressure = AimdLimiter()
    pressure.observe(SHORT, 0.0, 9, 0.0)
    pressure.observe(available, stalled, 9, 2.0)
    assert pressure.limit == expected


def test_the_limit_does_not_change_again_before_the_pause_is_over() -> None:
    pressure = AimdLimiter()
    pressure.observe(SHORT, 0.0, 8, 10.0)
    pressure.observe(SHORT, 0.0, 8, 11.9)
    assert pressure.limit == 4
    pressure.observe(SHORT, 0.0, 8, 12.0)
    assert pressure.limit == 2


def test_a_measurement_that_changes_nothing_delays_nothing() -> None:
    pressure = AimdLimiter()
    pressure.observe(PLENTY, 0.0, 8, 10.0)
    pressure.observe(SHORT, 0.0, 8, 10.1)
    assert pressure.limit == 4


def test_a_pool_that_has_become_smaller_meanwhile_is_halved_by_what_it_is_now() -> None:
    pressure = AimdLimiter()
    pressure.observe(SHORT, 0.0, 12, 0.0)
    pressure.observe(SHORT, 0.0, 2, 2.0)
    assert pressure.limit == 1


def test_the_limit_of_a_pool_of_one_stays_one() -> None:
    pressure = AimdLimiter()
    pressure.observe(SHORT, 0.9, 1, 0.0)
    assert pressure.limit is None
