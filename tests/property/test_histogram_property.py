"""Histogram: for any times, its percentiles and counts are within the documented error."""

from __future__ import annotations

from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from offloop import Histogram
from offloop.core.telemetry.histogram_recorder import Recorder

SECONDS = st.floats(0.0, 3600.0) | st.floats(0.0, 1e-3) | st.sampled_from([2.0**power for power in range(-21, 12)])
TIMES = st.lists(SECONDS, max_size=60)


def histogram(times: list[float]) -> Histogram:
    recorder = Recorder()
    for time in times:
        recorder.record(time)
    return recorder.snapshot()


@given(TIMES.filter(bool), st.integers(0, 100))
def test_a_percentile_is_never_too_low_and_at_most_an_eighth_or_a_tick_too_high(times: list[float], percent: int) -> None:
    told = histogram(times).percentile(percent)
    true = sorted(times)[max(ceil(percent * len(times) / 100), 1) - 1]
    assert true <= told <= max(true * 1.125, true + 2.0**-20)


@given(TIMES, st.integers(-20, 11))
def test_the_number_below_a_power_of_two_is_exact(times: list[float], power: int) -> None:
    assert histogram(times).below(2.0**power) == sum(time < 2.0**power for time in times)


@given(TIMES, TIMES)
def test_a_difference_is_the_histogram_of_the_later_times(before: list[float], after: list[float]) -> None:
    lately, alone = histogram(before + after) - histogram(before), histogram(after)
    assert (lately.count, lately.buckets) == (alone.count, alone.buckets)
    assert abs(lately.sum_s - alone.sum_s) < 1e-6
    assert alone.max_s <= lately.max_s <= max(alone.max_s * 1.125, alone.max_s + 2.0**-20)
